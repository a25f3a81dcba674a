import { once } from "node:events";
import { createServer, request as httpRequest } from "node:http";
import type { IncomingMessage } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { connect } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemNetwork } from "../../task-manager/http/network.ts";
import type { Network } from "../../task-manager/http/network.ts";
import { createDownloader } from "../../task-manager/pipeline/download.ts";
import type { DownloadSpec } from "../../task-manager/protocol.ts";
import { makeCertificates } from "../support/certificates.ts";
import type { Certificates } from "../support/certificates.ts";
import { downloadSpec } from "../support/download-spec.ts";
import { startFaultServer } from "../support/fault-server.ts";
import type { FaultServer } from "../support/fault-server.ts";

interface Running { readonly port: number; close(): Promise<void> }
interface Proxy extends Running {
  /** `GET http://…` or `CONNECT host:port`, in order. */
  readonly log: string[];
}

const password = "pr0xy";
let server: FaultServer;
let secure: Running;
let certificates: Certificates;
let proxy: Proxy;
let strictProxy: Proxy;

beforeAll(async () => {
  certificates = makeCertificates();
  server = await startFaultServer();
  secure = await listening(createSecureServer(
    { key: certificates.key, cert: certificates.certificate },
    (_request, response) => { response.end(server.okJpeg); },
  ));
  proxy = await startProxy(null);
  strictProxy = await startProxy(`Basic ${Buffer.from(`ann:${password}`).toString("base64")}`);
});
afterAll(async () => {
  await Promise.all([server.stop(), secure.close(), proxy.close(), strictProxy.close()]);
});

async function listening(listener: ReturnType<typeof createServer>): Promise<Running> {
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  return {
    port: (listener.address() as AddressInfo).port,
    async close() {
      listener.closeAllConnections();
      listener.close();
      await once(listener, "close");
    },
  };
}

/** Forwards plain http and tunnels by CONNECT, both to loopback, whatever the name asked for. */
async function startProxy(authorization: string | null): Promise<Proxy> {
  const log: string[] = [];
  const tunnels = new Set<Socket>();
  const allowed = (request: IncomingMessage) => authorization === null || request.headers["proxy-authorization"] === authorization;
  const listener = createServer((request, response) => {
    log.push(`${request.method} ${request.url}`);
    if (!allowed(request)) return void response.writeHead(407).end();
    const url = new URL(request.url ?? "");
    const { "proxy-authorization": _secret, ...headers } = request.headers;
    const onward = httpRequest({ host: "127.0.0.1", port: url.port, path: url.pathname + url.search, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    onward.on("error", () => response.writeHead(502).end());
    onward.end();
  });
  listener.on("connect", (request: IncomingMessage, socket: Socket) => {
    log.push(`CONNECT ${request.url}`);
    if (!allowed(request)) return void socket.end("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    const onward = connect(Number(request.url?.split(":").at(-1)), "127.0.0.1");
    for (const end of [socket, onward]) {
      tunnels.add(end);
      end.on("error", () => undefined).on("close", () => tunnels.delete(end));
    }
    onward.on("error", () => socket.end("HTTP/1.1 502 Bad Gateway\r\n\r\n"));
    onward.on("connect", () => {
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
      socket.pipe(onward).pipe(socket);
    });
  });
  const running = await listening(listener);
  return {
    port: running.port,
    log,
    async close() {
      for (const socket of tunnels) socket.destroy();
      await running.close();
    },
  };
}

async function download(input: string, changes: Partial<DownloadSpec>) {
  const downloader = createDownloader(downloadSpec(changes));
  try {
    return await downloader.download(input);
  } finally {
    await downloader.close();
  }
}

function through(used: Running, changes: Partial<DownloadSpec["proxy"]> = {}): Partial<DownloadSpec> {
  const url = `http://127.0.0.1:${used.port}`;
  return { proxy: { http: url, https: url, noProxy: "", ...changes }, certificateAuthorities: [certificates.authority] };
}

describe("https", () => {
  test("with a certificate authority of the job's own, several times over one connection", async () => {
    const downloader = createDownloader(downloadSpec({ certificateAuthorities: [certificates.authority] }));
    for (let n = 0; n < 3; n += 1) {
      expect((await downloader.download(`https://localhost:${secure.port}/a.jpg`)).bytes.equals(server.okJpeg)).toBe(true);
    }
    expect((await downloader.download(`https://127.0.0.1:${secure.port}/a.jpg`)).bytes.equals(server.okJpeg)).toBe(true);
    await downloader.close();
  });

  test("is refused from an authority that nobody named", async () => {
    await expect(download(`https://localhost:${secure.port}/a.jpg`, {})).rejects.toMatchObject({ code: "DOWNLOAD_TLS", retryable: false });
  });

  test("is refused where the certificate is another host's", async () => {
    const network: Network = { ...systemNetwork, lookup: (_hostname, options, callback) => systemNetwork.lookup("127.0.0.1", options, callback) };
    const downloader = createDownloader(downloadSpec({ certificateAuthorities: [certificates.authority] }), network);
    const failing = downloader.download(`https://another.example:${secure.port}/a.jpg`);
    await expect(failing).rejects.toMatchObject({ code: "DOWNLOAD_TLS", retryable: false });
    await downloader.close();
  });

  test("an authority that is no certificate refuses the task, naming the field", () => {
    expect(() => createDownloader(downloadSpec({ certificateAuthorities: [certificates.authority, "nonsense"] })))
      .toThrow(expect.objectContaining({ field: "task.download.certificateAuthorities[1]" }));
  });
});

describe("through a proxy", () => {
  test("plain http is forwarded, to names that only the proxy knows", async () => {
    const url = `http://only-the-proxy-knows.invalid:${server.port}/ok.jpg`;
    expect((await download(url, through(proxy))).bytes.equals(server.okJpeg)).toBe(true);
    expect(proxy.log).toContain(`GET ${url}`);
  });

  test("https is tunnelled, and the job's own authority counts there too", async () => {
    expect((await download(`https://localhost:${secure.port}/a.jpg`, through(proxy))).bytes.equals(server.okJpeg)).toBe(true);
    expect(proxy.log).toContain(`CONNECT localhost:${secure.port}`);
    await expect(download(`https://localhost:${secure.port}/a.jpg`, { ...through(proxy), certificateAuthorities: [] }))
      .rejects.toMatchObject({ code: "DOWNLOAD_TLS" });
  });

  test.each([`127.0.0.1`, "*", "example.org, 127.0.0.1", "127.0.0.1:PORT"])("not where NO_PROXY says %j", async (noProxy) => {
    const path = `/ok/${encodeURIComponent(noProxy)}.jpg`;
    const changes = through(proxy, { noProxy: noProxy.replace("PORT", String(server.port)) });
    expect((await download(server.origin + path, changes)).bytes.equals(server.okJpeg)).toBe(true);
    expect(proxy.log.filter((line) => line.endsWith(path))).toEqual([]);
  });

  test("statuses are the host's, redirects go through it too", async () => {
    await expect(download(`${server.origin}/status/404`, through(proxy))).rejects.toMatchObject({ code: "DOWNLOAD_STATUS", retryable: false });
    expect((await download(`${server.origin}/redirect/2`, through(proxy))).bytes.equals(server.okJpeg)).toBe(true);
  });

  test("cloud metadata is not asked for, by address, name or redirect", async () => {
    const before = proxy.log.filter((line) => /169\.254|metadata\.google/.test(line)).length;
    const asked = ["http://169.254.169.254/", "http://[::ffff:a9fe:a9fe]/", "http://metadata.google.internal/", "https://169.254.169.254/"];
    for (const url of [...asked, `${server.origin}/redirect-to-metadata`]) {
      await expect(download(url, through(proxy))).rejects.toMatchObject({ code: "DOWNLOAD_FORBIDDEN_ADDRESS" });
    }
    expect(proxy.log.filter((line) => /169\.254|metadata\.google/.test(line)).length).toBe(before);
  });

  test.each(["http", "https"])("a proxy that wants a password: the item's error for %s, unless it is given", async (scheme) => {
    const url = scheme === "http" ? `${server.origin}/ok.jpg` : `https://localhost:${secure.port}/a.jpg`;
    await expect(download(url, through(strictProxy))).rejects.toMatchObject({ code: "DOWNLOAD_PROXY", retryable: false });
    const given = `http://ann:${password}@127.0.0.1:${strictProxy.port}`;
    const { bytes } = await download(url, through(strictProxy, { http: given, https: given }));
    expect(bytes.equals(server.okJpeg)).toBe(true);
  });

  test.each(["http", "https"])("a proxy that is not there: the item's error for %s", async (scheme) => {
    const gone = await startProxy(null);
    await gone.close();
    const url = `${scheme}://localhost:${secure.port}/a.jpg`;
    await expect(download(url, through(gone))).rejects.toMatchObject({ code: "DOWNLOAD_PROXY", retryable: true });
  });

  test("a tunnel that the proxy cannot build", async () => {
    const gone = await listening(createServer());
    await gone.close();
    await expect(download(`https://localhost:${gone.port}/a.jpg`, through(proxy))).rejects.toMatchObject({ code: "DOWNLOAD_PROXY", retryable: true });
  });

  test("a proxy that never answers", async () => {
    const silent = await listening(createServer(() => undefined).on("connect", (_request, socket: Socket) => {
      socket.on("error", () => undefined).on("end", () => socket.destroy()).resume();
    }));
    for (const url of [`${server.origin}/ok.jpg`, `https://localhost:${secure.port}/a.jpg`]) {
      await expect(download(url, { ...through(silent), idleTimeoutMs: 500 })).rejects.toMatchObject({ code: "DOWNLOAD_IDLE", retryable: true });
    }
    await silent.close();
  });

  test("a proxy that is no URL refuses the task, without its text", () => {
    const wrong = () => createDownloader(downloadSpec({ proxy: { http: "ann:pr0xy@host", https: "", noProxy: "" } }));
    expect(wrong).toThrow(expect.objectContaining({ field: "task.download.proxy.http" }));
    expect(wrong).not.toThrow(/pr0xy/);
  });
});

test.each([{ "x y": "1" }, { "x": "a\r\nb: c" }, { "Transfer-Encoding": "chunked" }])("the request header %j refuses the task", (headers) => {
  expect(() => createDownloader(downloadSpec({ headers }))).toThrow(expect.objectContaining({ field: "task.download.headers" }));
});
