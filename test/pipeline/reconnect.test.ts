import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { createDownloader } from "../../task-manager/pipeline/download.ts";
import { downloadSpec } from "../support/download-spec.ts";

/** Idle connections can be made dead without a word, as they are after an environment was frozen. */
async function serve() {
  const sockets = new Set<Socket>();
  const dead = new Set<Socket>();
  const server = createServer((request, response) => {
    if (!dead.has(request.socket)) response.end("body");
  });
  server.on("connection", (socket) => sockets.add(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close().closeAllConnections());
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/a.jpg`,
    sockets,
    freeze: () => sockets.forEach((socket) => dead.add(socket)),
  };
}

/** What has just been used is idle a turn of the event loop later. */
const connectionIsIdle = () => new Promise((resolve) => setTimeout(resolve, 20));

test("connections that died while the process was stopped are not used again", async () => {
  const server = await serve();
  const downloader = createDownloader(downloadSpec({ idleTimeoutMs: 1500 }));
  onTestFinished(() => downloader.close());
  await downloader.download(server.url);
  await connectionIsIdle();
  server.freeze();
  downloader.reconnect();
  expect((await downloader.download(server.url)).bytes.toString()).toBe("body");
  await connectionIsIdle();
  server.freeze();
  await expect(downloader.download(server.url)).rejects.toMatchObject({ code: "DOWNLOAD_IDLE" });
});
