import { X509Certificate } from "node:crypto";
import type { LookupFunction } from "node:net";
import type { SecureContext } from "node:tls";
import { Agent, buildConnector, EnvHttpProxyAgent, Pool } from "undici";
import type { Dispatcher } from "undici";
import type { DownloadSpec } from "../protocol.ts";
import { TaskRefused } from "../tasks/types.ts";
import { ConnectFailure, ForbiddenAddress } from "./failures.ts";
import type { Network } from "./network.ts";

export interface DispatcherOptions {
  readonly connectTimeoutMs: number;
  readonly proxy: DownloadSpec["proxy"];
  readonly certificateAuthorities: readonly string[];
}

/**
 * Keep-alive connections to every host, through proxies where these are given. undici's own dispatchers rather than
 * node:http agents, since they bring proxies and cost no more. Time-outs other than connecting are the caller's.
 *
 * @throws TaskRefused for a proxy that is not a URL or a certificate that is not PEM.
 */
export function createDispatcher(options: DispatcherOptions, network: Network): Dispatcher {
  checkCertificates(options.certificateAuthorities);
  checkProxies(options.proxy);
  const shared = {
    connect: guardedConnector(options, network),
    pipelining: 1,
    headersTimeout: 0,
    bodyTimeout: 0,
  };
  if (options.proxy.http === "" && options.proxy.https === "") return new Agent(shared);
  const tls = { timeout: options.connectTimeoutMs, secureContext: secureContextOf(options) };
  return new EnvHttpProxyAgent({
    ...shared,
    httpProxy: options.proxy.http,
    httpsProxy: options.proxy.https,
    noProxy: options.proxy.noProxy,
    // Plain http goes to the proxy as it is: many proxies allow CONNECT to port 443 alone.
    proxyTunnel: false,
    proxyTls: tls,
    requestTls: tls,
    // A CONNECT that the proxy leaves unanswered would be held for undici's own five minutes.
    clientFactory: (origin, settings) => new Pool(origin, { ...settings, headersTimeout: options.connectTimeoutMs }),
  });
}

/** Checks the address between resolving and connecting, so that a name cannot change its mind in between. */
function guardedConnector(options: DispatcherOptions, network: Network): buildConnector.connector {
  const base = { timeout: options.connectTimeoutMs, lookup: guardedLookup(network) };
  const plain = buildConnector({ ...base });
  let secure: buildConnector.connector | undefined;
  return (target, callback) => {
    const connect = target.protocol === "https:"
      ? secure ??= buildConnector({ ...base, secureContext: secureContextOf(options) })
      : plain;
    connect(target, (error, socket) => {
      if (error !== null) return callback(new ConnectFailure(error), null);
      const address = socket.remoteAddress ?? "";
      if (!network.forbids(address)) return callback(null, socket);
      socket.destroy();
      callback(new ConnectFailure(new ForbiddenAddress(address)), null);
    });
  };
}

function guardedLookup(network: Network): LookupFunction {
  return (hostname, options, callback) => {
    network.lookup(hostname, options, (error, address, family) => {
      const addresses = typeof address === "string" ? [address] : (address ?? []).map((entry) => entry.address);
      const forbidden = error === null ? addresses.find(network.forbids) : undefined;
      if (forbidden === undefined) callback(error, address, family);
      else callback(new ForbiddenAddress(forbidden), []);
    });
  };
}

/** One for all connections: reading the root certificates takes milliseconds. So does loading TLS, which not all need. */
function secureContextOf(options: DispatcherOptions): SecureContext {
  const { createSecureContext, rootCertificates } = process.getBuiltinModule("node:tls");
  if (options.certificateAuthorities.length === 0) return createSecureContext();
  return createSecureContext({ ca: [...rootCertificates, ...options.certificateAuthorities] });
}

function checkCertificates(certificates: readonly string[]): void {
  certificates.forEach((certificate, at) => {
    try {
      new X509Certificate(certificate);
    } catch (cause) {
      throw new TaskRefused(`certificate authority ${at + 1} is not a certificate in PEM form`, {
        code: "DOWNLOAD_TLS",
        field: `task.download.certificateAuthorities[${at}]`,
        cause,
      });
    }
  });
}

function checkProxies(proxy: DownloadSpec["proxy"]): void {
  for (const name of ["http", "https"] as const) {
    const text = proxy[name];
    if (text === "" || /^https?:$/.test(URL.canParse(text) ? new URL(text).protocol : "")) continue;
    // The value may hold a password: it is not shown.
    throw new TaskRefused(`the ${name} proxy is not a URL such as http://proxy.example:3128`, {
      code: "DOWNLOAD_PROXY",
      field: `task.download.proxy.${name}`,
    });
  }
}
