import { createHmac, hash } from "node:crypto";
import type * as Sdk from "@aws-sdk/client-lambda";

/** As the SDK hands it to whatever sends it. */
export type HttpRequest = Parameters<Sdk.LambdaClient["config"]["requestHandler"]["handle"]>[0];
export type Credentials = Awaited<ReturnType<Sdk.LambdaClient["config"]["credentials"]>>;

const algorithm = "AWS4-HMAC-SHA256";
const authorizationOf = /^AWS4-HMAC-SHA256 Credential=[^/]+\/\d{8}\/([^/]+)\/([^/]+)\/aws4_request, SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$/;
/** What differs from one request to the next. */
const dateHeader = "x-amz-date";
const bodyHashHeader = "x-amz-content-sha256";
const lengthHeader = "content-length";
const idHeader = "amz-sdk-invocation-id";
const changing: ReadonlySet<string> = new Set([dateHeader, bodyHashHeader, lengthHeader, idHeader]);

export interface Filling {
  readonly body: Uint8Array;
  /** `20261121T210100Z` */
  readonly date: string;
  /** By which AWS tells requests apart. */
  readonly id: string;
}

interface Scope {
  readonly region: string;
  readonly service: string;
  /** `content-length;host;…` */
  readonly signedHeaders: string;
}

/**
 * A request that the SDK made and signed, as the pattern for others to the same function: endpoint, user agent and all
 * else are as it found them; body, date, id and signature are new.
 */
export class RequestTemplate {
  readonly #request: HttpRequest;
  readonly #credentials: Credentials;
  readonly #scope: Scope;
  readonly #path: string;
  /** What is signed, up to the headers. */
  readonly #canonicalStart: string;
  /** Of each header that is signed, by name; null: it changes. */
  readonly #canonicalLines: readonly (readonly [name: string, line: string | null])[];
  #key: { readonly day: string; readonly bytes: Buffer } | null = null;

  /** Null: it is not signed in the one way that is known here (SigV4, in a header, and all of the body). */
  static of(request: HttpRequest, credentials: Credentials): RequestTemplate | null {
    const [, region, service, signedHeaders, signature] = authorizationOf.exec(request.headers["authorization"] ?? "") ?? [];
    const { [dateHeader]: date, [idHeader]: id } = request.headers;
    if (region === undefined || service === undefined || signedHeaders === undefined || date === undefined || id === undefined || !(request.body instanceof Uint8Array)) return null;
    const template = new RequestTemplate(request, credentials, { region, service, signedHeaders });
    // Whatever the SDK signs differently one day shows here, and is then left to it.
    return template.fill({ body: request.body, date, id }).headers["authorization"]?.endsWith(`=${signature}`) === true ? template : null;
  }

  private constructor(request: HttpRequest, credentials: Credentials, scope: Scope) {
    const query = canonicalQuery(request.query);
    this.#request = request;
    this.#credentials = credentials;
    this.#scope = scope;
    this.#path = query === "" ? request.path : `${request.path}?${query}`;
    this.#canonicalStart = `${request.method}\n${request.path.split("/").map(escaped).join("/")}\n${query}\n`;
    this.#canonicalLines = scope.signedHeaders.split(";").map((name) => [name, changing.has(name) ? null : `${name}:${canonicalValue(request.headers[name] ?? "")}\n`]);
  }

  /** Credentials that are renewed have another secret. */
  isFor({ accessKeyId, secretAccessKey, sessionToken }: Credentials): boolean {
    const mine = this.#credentials;
    return mine.secretAccessKey === secretAccessKey && mine.accessKeyId === accessKeyId && mine.sessionToken === sessionToken;
  }

  fill({ body, date, id }: Filling): HttpRequest {
    const { protocol, hostname, port, method, headers } = this.#request;
    const changed = { ...headers, [idHeader]: id, [dateHeader]: date, [bodyHashHeader]: sha256(body), [lengthHeader]: String(body.byteLength) };
    const { region, service, signedHeaders } = this.#scope;
    const day = date.slice(0, 8);
    const scope = `${day}/${region}/${service}/aws4_request`;
    let canonical = this.#canonicalStart;
    for (const [name, line] of this.#canonicalLines) canonical += line ?? `${name}:${changed[name]}\n`;
    canonical += `\n${signedHeaders}\n${changed[bodyHashHeader]}`;
    const signature = createHmac("sha256", this.#keyOf(day)).update(`${algorithm}\n${date}\n${scope}\n${sha256(canonical)}`).digest("hex");
    const authorization = `${algorithm} Credential=${this.#credentials.accessKeyId}/${scope}, SignedHeaders=${signedHeaders}, Signature=${signature}`;
    return { protocol, hostname, ...(port === undefined ? {} : { port }), method, path: this.#path, query: {}, headers: { ...changed, authorization }, body };
  }

  #keyOf(day: string): Buffer {
    if (this.#key?.day !== day) {
      const { region, service } = this.#scope;
      const bytes = [day, region, service, "aws4_request"].reduce<Buffer>((key, part) => createHmac("sha256", key).update(part).digest(), Buffer.from(`AWS4${this.#credentials.secretAccessKey}`));
      this.#key = { day, bytes };
    }
    return this.#key.bytes;
  }
}

/** `20261121T210100Z` */
export function amzDate(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19).replace(/[-:]/g, "")}Z`;
}

function sha256(content: string | Uint8Array): string {
  return hash("sha256", content, "hex");
}

function canonicalQuery(query: HttpRequest["query"]): string {
  return Object.keys(query)
    .sort()
    .map((name) => `${escaped(name)}=${escaped(String(query[name] ?? ""))}`)
    .join("&");
}

function canonicalValue(value: string): string {
  return value.replace(/[\r\n]/g, " ").replace(/[ \t]+/g, " ").trim();
}

function escaped(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}
