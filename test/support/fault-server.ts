/**
 * A real HTTP server on loopback with a path for everything that can go wrong with a download. Query strings are
 * ignored unless a path names a parameter; whatever follows a path that ends in `/…` is free, so that many different
 * URLs can share one behaviour.
 *
 * Good
 *   /ok.jpg, /ok/…              200, a JPEG of 640×480        /ok.png, /ok.webp   the same picture
 *   /slow-ok?delayMs=300        /ok.jpg after a while
 *   /close-ok                   /ok.jpg, length unsaid, ended by closing the connection
 *   /1x1.png  /4000x3.png       odd sizes
 *   /gzip-ok /br-ok /deflate-ok /raw-deflate-ok     /ok.jpg, compressed although nobody asked
 *   /headers                    200, the request's headers as JSON
 * Statuses
 *   /status/CODE/…              that status, for ever (404, 410, 500, 503, 429, …)
 *   /status/CODE/…?retryAfter=2 with Retry-After (any text)
 *   /then-ok/CODE/TIMES/KEY     that status TIMES times for each KEY, then /ok.jpg (takes ?retryAfter= too)
 * Silence
 *   /never/…                    takes the request, never answers
 *   /headers-then-silence/…     the headers, no body
 *   /byte-a-second/…            a byte every ?everyMs= (1000)
 * Broken connections
 *   /reset/…                    reset before any answer       /reset-mid-body/…   reset after half of the body
 *   /short-body/…               ends before its Content-Length
 *   /cut-chunked/…              chunked, ends without the last chunk
 *   /not-http/…                 answers what is not HTTP
 * Redirects
 *   /redirect/N                 N redirects, then /ok.jpg     /redirect-loop     for ever
 *   /redirect-to?url=URL        one redirect to there
 *   /redirect-to-metadata       to 169.254.169.254            /redirect-to-file  to file:///etc/passwd
 * Sizes and encodings
 *   /huge-content-length/…      says 10 GB, sends little      /endless/…          chunked, never ends
 *   /gzip-bomb                  512 MB of zeros in 0.5 MB     /broken-gzip        not gzip, says it is
 *   /unknown-encoding           Content-Encoding: zebra
 * Contents
 *   /empty                      200, no byte                  /html               200, a web page
 *   /truncated.jpg              the first half of /ok.jpg     /text.jpg           text, named and typed as JPEG
 *   /pixel-bomb.png             30 000 × 30 000 pixels in 1 MB
 */
import { once } from "node:events";
import { createServer } from "node:http";
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { brotliCompressSync, constants, crc32, deflateRawSync, deflateSync, gzipSync } from "node:zlib";
import sharp from "sharp";
import type { Sharp } from "sharp";

export interface FaultServer {
  /** `http://127.0.0.1:PORT`, no slash at the end. */
  readonly origin: string;
  readonly port: number;
  /** The bytes of `/ok.jpg`. */
  readonly okJpeg: Buffer;
  /** Requests for this path so far, query string aside. */
  requests(path: string): number;
  readonly requestsTotal: number;
  /** Connections taken so far. */
  readonly connections: number;
  stop(): Promise<void>;
}

interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  /** Requests for this path so far, this one included. */
  readonly times: number;
  /** What the path's pattern captured. */
  readonly captured: readonly string[];
  readonly assets: Assets;
}

type Respond = (exchange: Exchange) => void | Promise<void>;

export async function startFaultServer(): Promise<FaultServer> {
  const assets = createAssets();
  const counts = new Map<string, number>();
  let requestsTotal = 0;
  let connections = 0;

  const server = createServer((request, response) => {
    const url = new URL(request.url ?? "/", "http://fault-server");
    const times = (counts.get(url.pathname) ?? 0) + 1;
    counts.set(url.pathname, times);
    requestsTotal += 1;
    void respond({ request, response, url, times, captured: [], assets });
  });
  server.on("connection", () => { connections += 1; });
  // Idle connections are the client's to end.
  server.keepAliveTimeout = 60_000;
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;

  return {
    origin: `http://127.0.0.1:${port}`,
    port,
    okJpeg: await assets.get("ok.jpg"),
    requests: (path) => counts.get(path) ?? 0,
    get requestsTotal() { return requestsTotal; },
    get connections() { return connections; },
    async stop() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

const routes: readonly (readonly [path: RegExp, respond: Respond])[] = [
  [/^\/(?:ok\.jpg$|ok\/)/, (exchange) => sendAsset(exchange, "ok.jpg")],
  [/^\/((?:ok|1x1|4000x3|truncated|pixel-bomb)\.\w+)$/, (exchange) => sendAsset(exchange, exchange.captured[0] ?? "")],
  [/^\/slow-ok/, async (exchange) => {
    await delay(numberOf(exchange.url, "delayMs", 300));
    await sendAsset(exchange, "ok.jpg");
  }],
  [/^\/close-ok/, async ({ response, assets }) => {
    response.removeHeader("transfer-encoding");
    response.useChunkedEncodingByDefault = false;
    response.writeHead(200, { "content-type": "image/jpeg", "connection": "close" });
    response.end(await assets.get("ok.jpg"));
  }],
  [/^\/gzip-ok/, (exchange) => sendEncoded(exchange, "gzip", gzipSync)],
  [/^\/br-ok/, (exchange) => sendEncoded(exchange, "br", brotliCompressSync)],
  [/^\/deflate-ok/, (exchange) => sendEncoded(exchange, "deflate", deflateSync)],
  [/^\/raw-deflate-ok/, (exchange) => sendEncoded(exchange, "deflate", deflateRawSync)],
  [/^\/broken-gzip/, (exchange) => sendEncoded(exchange, "gzip", () => Buffer.from("this is not gzip"))],
  [/^\/unknown-encoding/, (exchange) => sendEncoded(exchange, "zebra", (bytes) => bytes)],
  [/^\/gzip-bomb/, async (exchange) => send(exchange, await exchange.assets.get("gzip-bomb"), { "content-encoding": "gzip" })],
  [/^\/headers$/, (exchange) => send(exchange, Buffer.from(JSON.stringify(exchange.request.headers)), { "content-type": "application/json" })],

  [/^\/status\/(\d{3})/, (exchange) => sendStatus(exchange, Number(exchange.captured[0]))],
  [/^\/then-ok\/(\d{3})\/(\d+)\//, (exchange) => {
    const [status, times] = exchange.captured.map(Number);
    return exchange.times <= (times ?? 0) ? sendStatus(exchange, status ?? 500) : sendAsset(exchange, "ok.jpg");
  }],

  [/^\/never/, () => undefined],
  [/^\/headers-then-silence/, ({ response }) => {
    response.writeHead(200, { "content-type": "image/jpeg", "content-length": 1000 });
    response.flushHeaders();
  }],
  [/^\/byte-a-second/, ({ response, url }) => {
    response.writeHead(200, { "content-type": "image/jpeg", "content-length": 1_000_000 });
    const timer = setInterval(() => response.write("x"), numberOf(url, "everyMs", 1000));
    response.on("close", () => clearInterval(timer));
  }],

  [/^\/reset\//, ({ request }) => { request.socket.resetAndDestroy(); }],
  [/^\/reset-mid-body/, (exchange) => sendHalf(exchange, (socket) => { socket.resetAndDestroy(); })],
  [/^\/short-body/, (exchange) => sendHalf(exchange, (socket) => { socket.end(); })],
  [/^\/cut-chunked/, ({ response }) => {
    response.writeHead(200, { "content-type": "image/jpeg", "connection": "close" });
    response.write("half of a picture", () => response.socket?.end());
  }],
  [/^\/not-http/, ({ request }) => { request.socket.end("220 mail.example ESMTP\r\n"); }],

  [/^\/redirect\/(\d+)/, (exchange) => {
    const left = Number(exchange.captured[0]);
    redirect(exchange, left <= 1 ? "/ok.jpg" : `/redirect/${left - 1}`);
  }],
  [/^\/redirect-loop/, (exchange) => redirect(exchange, "/redirect-loop")],
  [/^\/redirect-to-metadata/, (exchange) => redirect(exchange, "http://169.254.169.254/latest/meta-data/")],
  [/^\/redirect-to-file/, (exchange) => redirect(exchange, "file:///etc/passwd")],
  [/^\/redirect-to$/, (exchange) => redirect(exchange, exchange.url.searchParams.get("url") ?? "/ok.jpg")],

  [/^\/huge-content-length/, ({ response }) => {
    response.writeHead(200, { "content-type": "image/jpeg", "content-length": 10_000_000_000 });
    response.write("x".repeat(1000));
  }],
  [/^\/endless/, ({ response }) => {
    const chunk = Buffer.alloc(65_536);
    response.writeHead(200, { "content-type": "image/jpeg" });
    const fill = (): void => { while (!response.destroyed && response.write(chunk)); };
    response.on("drain", fill);
    fill();
  }],

  [/^\/empty/, (exchange) => send(exchange, Buffer.alloc(0), { "content-type": "image/jpeg" })],
  [/^\/html/, (exchange) => send(exchange, Buffer.from("<!doctype html><title>Sign in</title><p>Please sign in."), { "content-type": "text/html" })],
  [/^\/text\.jpg/, (exchange) => send(exchange, Buffer.from("Not a picture, whatever its name says.\n".repeat(20)), { "content-type": "image/jpeg" })],
];

async function respond(exchange: Exchange): Promise<void> {
  for (const [path, answer] of routes) {
    const match = path.exec(exchange.url.pathname);
    if (match !== null) return answer({ ...exchange, captured: match.slice(1) });
  }
  sendStatus(exchange, 404);
}

function send({ response }: Exchange, body: Buffer, headers: OutgoingHttpHeaders): void {
  response.writeHead(200, { "content-length": body.length, ...headers });
  response.end(body);
}

async function sendAsset(exchange: Exchange, name: string): Promise<void> {
  send(exchange, await exchange.assets.get(name), { "content-type": `image/${name.split(".")[1] === "jpg" ? "jpeg" : name.split(".")[1]}` });
}

async function sendEncoded(exchange: Exchange, encoding: string, encode: (bytes: Buffer) => Buffer): Promise<void> {
  send(exchange, encode(await exchange.assets.get("ok.jpg")), { "content-type": "image/jpeg", "content-encoding": encoding });
}

function sendStatus({ response, url }: Exchange, status: number): void {
  const retryAfter = url.searchParams.get("retryAfter");
  response.writeHead(status, { "content-type": "text/plain", ...(retryAfter === null ? {} : { "retry-after": retryAfter }) });
  response.end(`status ${status}\n`);
}

async function sendHalf({ response, assets }: Exchange, cut: (socket: Socket) => void): Promise<void> {
  const whole = await assets.get("ok.jpg");
  response.writeHead(200, { "content-type": "image/jpeg", "content-length": whole.length });
  response.write(whole.subarray(0, whole.length / 2), () => {
    if (response.socket !== null) cut(response.socket);
  });
}

function redirect({ response }: Exchange, location: string): void {
  response.writeHead(302, { location, "content-type": "text/plain" });
  response.end("elsewhere\n");
}

function numberOf(url: URL, name: string, otherwise: number): number {
  return Number(url.searchParams.get(name) ?? otherwise);
}

// ---- pictures, each made when first asked for ----

interface Assets {
  get(name: string): Promise<Buffer>;
}

function createAssets(): Assets {
  const made = new Map<string, Promise<Buffer>>();
  return {
    get(name) {
      const known = made.get(name);
      if (known !== undefined) return known;
      const asset = makeAsset(name);
      made.set(name, asset);
      return asset;
    },
  };
}

async function makeAsset(name: string): Promise<Buffer> {
  switch (name) {
    case "ok.jpg": return photo().jpeg({ quality: 85 }).toBuffer();
    case "ok.png": return photo().png().toBuffer();
    case "ok.webp": return photo().webp().toBuffer();
    case "truncated.jpg": {
      const whole = await makeAsset("ok.jpg");
      return whole.subarray(0, whole.length / 2);
    }
    case "1x1.png": return plain(1, 1).png().toBuffer();
    case "4000x3.png": return plain(4000, 3).png().toBuffer();
    case "pixel-bomb.png": return pixelBomb(30_000);
    // Members of a gzip file may follow one another (RFC 1952, 2.2).
    case "gzip-bomb": return Buffer.concat(Array<Buffer>(64).fill(gzipSync(Buffer.alloc(8_388_608))));
    default: throw new Error(`no such picture: ${name}`);
  }
}

/** Smooth in both directions, so that a resize of it has something to get wrong. */
function photo(): Sharp {
  const [width, height] = [640, 480];
  const pixels = Buffer.alloc(width * height * 3);
  for (let y = 0, at = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, at += 3) {
      pixels[at] = (x * 255) / width;
      pixels[at + 1] = (y * 255) / height;
      pixels[at + 2] = 128 + 100 * Math.sin(x / 9) * Math.cos(y / 7);
    }
  }
  return sharp(pixels, { raw: { width, height, channels: 3 } });
}

function plain(width: number, height: number): Sharp {
  return sharp({ create: { width, height, channels: 3, background: { r: 200, g: 30, b: 90 } } });
}

/** A gray PNG of black pixels, built by repeating one compressed megabyte: nobody ever holds the pixels. */
export function pixelBomb(side: number): Buffer {
  const bytes = side * (side + 1);
  const block = 1_000_000;
  // Ends on a byte boundary and refers to nothing before it, so it can be repeated.
  const zeros = (length: number): Buffer => deflateRawSync(Buffer.alloc(length), { finishFlush: constants.Z_FULL_FLUSH });
  const repeated = Array<Buffer>(Math.floor(bytes / block)).fill(zeros(block));
  // Adler-32 of n zeros: the low half stays 1, the high half counts them modulo 65 521.
  const checksum = Buffer.alloc(4);
  checksum.writeUInt32BE(((bytes % 65_521) << 16 | 1) >>> 0);
  const data = Buffer.concat([Buffer.from([0x78, 0x01]), ...repeated, zeros(bytes % block), Buffer.from([0x03, 0x00]), checksum]);
  const header = Buffer.alloc(13);
  header.writeUInt32BE(side, 0);
  header.writeUInt32BE(side, 4);
  header[8] = 8;
  return Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    pngChunk("IHDR", header),
    pngChunk("IDAT", data),
    pngChunk("IEND", Buffer.alloc(0)),
  ]);
}

function pngChunk(type: string, data: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const checksum = Buffer.alloc(4);
  checksum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, checksum]);
}
