// A web server on this machine with the pictures of the list, and every fault that the list names.
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";

/**
 * @param pictures the list of `pictures.mjs`
 * @param directory with `ID.jpg` for each digit
 * @returns `{ urlOf(picture), close() }`
 */
export async function servePictures(pictures, directory) {
  const closedPort = await unusedPort();
  const byPath = new Map(pictures.map((picture) => [pathOf(picture), picture]));
  const jpegOf = (picture) => readFile(path.join(directory, `${picture.id}.jpg`));
  const someJpeg = await jpegOf(pictures.find(({ fault }) => fault === null));

  const server = createServer(async ({ url }, response) => {
    const picture = byPath.get(url);
    switch (picture?.fault) {
      case null: return send(response, 200, "image/jpeg", await jpegOf(picture));
      case "truncated": return send(response, 200, "image/jpeg", someJpeg.subarray(0, someJpeg.length / 2));
      case "empty": return send(response, 200, "image/jpeg", "");
      case "page": return send(response, 200, "text/html", "<!doctype html><title>Sign in</title><p>Please sign in to see this picture.");
      case "failing": return send(response, 500, "text/plain", "out of order");
      default: return send(response, 404, "text/plain", "not here");
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();

  return {
    urlOf: (picture) => `http://127.0.0.1:${picture.fault === "refused" ? closedPort : port}${pathOf(picture)}`,
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}

function pathOf({ id }) {
  return `/photos/${id}.jpg`;
}

function send(response, status, type, body) {
  response.writeHead(status, { "content-type": type }).end(body);
}

async function unusedPort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}
