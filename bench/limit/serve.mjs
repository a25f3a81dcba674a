// Serves 512 synthetic photographs (JPEG, 640 x 480, some 34 KB) on the loopback interface, the same ones on every
// machine, as a process of its own.
// Usage: node bench/limit/serve.mjs [--port 0] [--urls FILE --count 2048]
// Prints its address once it listens; with --urls it has then written that many URLs, each with its own ?n=.
import { createServer } from "node:http";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import path from "node:path";
import { parseArgs } from "node:util";
import sharp from "sharp";

const pictures = 512;
const width = 640;
const height = 480;
const cache = path.resolve(import.meta.dirname, "../../node_modules/.cache/splitrun/pictures");

const { values } = parseArgs({
  options: { port: { type: "string", default: "0" }, urls: { type: "string" }, count: { type: "string", default: "2048" } },
});

function createRandom(seed) {
  let state = seed + 0x9e3779b9;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** Random samples on a coarse grid, smoothly enlarged: what is far apart differs much, what is near hardly. */
async function layer(random, columns, rows) {
  const samples = Uint8Array.from({ length: columns * rows * 3 }, () => random() * 256);
  return sharp(samples, { raw: { width: columns, height: rows, channels: 3 } })
    .resize(width, height, { fit: "fill", kernel: "cubic" })
    .raw()
    .toBuffer();
}

async function makePicture(seed) {
  const random = createRandom(seed);
  const [shapes, texture, grain] = [await layer(random, 8, 6), await layer(random, 80, 60), await layer(random, 320, 240)];
  const pixels = new Uint8ClampedArray(shapes.length);
  for (let at = 0; at < pixels.length; at++) pixels[at] = shapes[at] + (texture[at] - 128) * 0.18 + (grain[at] - 128) * 0.03;
  return sharp(pixels, { raw: { width, height, channels: 3 } }).jpeg({ quality: 80 }).toBuffer();
}

async function picture(index) {
  const file = path.join(cache, `${index}.jpg`);
  const known = await readFile(file).catch(() => null);
  if (known !== null) return known;
  const made = await makePicture(index + 1);
  const temporary = `${file}.${process.pid}.part`;
  await writeFile(temporary, made);
  await rename(temporary, file);
  return made;
}

await mkdir(cache, { recursive: true });
const all = [];
for (let index = 0; index < pictures; index++) all.push(await picture(index));

const server = createServer((request, response) => {
  const index = /^\/(\d+)\.jpg(\?|$)/.exec(request.url)?.[1];
  const body = all[index];
  if (body === undefined) return response.writeHead(404).end();
  response.writeHead(200, { "content-type": "image/jpeg", "content-length": body.length }).end(body);
});
server.keepAliveTimeout = 60_000;
server.listen(Number(values.port), "127.0.0.1", async () => {
  const address = `http://127.0.0.1:${server.address().port}`;
  if (values.urls !== undefined) {
    const urls = Array.from({ length: Number(values.count) }, (_, n) => `${address}/${n % pictures}.jpg?n=${n}\n`);
    await writeFile(values.urls, urls.join(""));
  }
  console.log(address, `${pictures} pictures, ${Math.round(all.reduce((sum, { length }) => sum + length, 0) / pictures)} bytes each`);
});
