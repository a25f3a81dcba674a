import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";

/** What becomes of the connections that come. */
export type ProxyMode = "pass" | "refuse" | "stall";

export interface ProxyOptions {
  /** Address to listen on. */
  readonly host: string;
  /** Port to pass on to at 127.0.0.1; null: the proxy's own, that it has at another address. */
  readonly toPort: number | null;
}

export interface TcpProxy {
  readonly port: number;
  /** Connections so far. */
  readonly count: number;
  /** Of those that come from now on. */
  mode: ProxyMode;
  /** For each connection that comes: after so many bytes, both ways, it is reset in the middle of whatever it is. */
  lifeBytes: () => number;
  /** Ends all that there are: nicely, or so that what is on its way is lost. */
  cut(how: "end" | "reset"): number;
  /** From now on nothing passes over those that there are, and nobody is told. */
  stall(): void;
  /** Whatever was held up passes. */
  goOn(): void;
  close(): void;
}

/** A bad line. */
export async function startTcpProxy({ host, toPort }: ProxyOptions): Promise<TcpProxy> {
  const pairs = new Set<readonly [Socket, Socket]>();
  const alone = new Set<Socket>();
  const server = createServer((from) => {
    count += 1;
    from.on("error", () => undefined);
    if (proxy.mode === "refuse") return void from.resetAndDestroy();
    if (proxy.mode === "stall") {
      alone.add(from);
      return void from.pause().once("close", () => alone.delete(from));
    }
    const to = connect(toPort ?? port, "127.0.0.1");
    const pair = [from, to] as const;
    pairs.add(pair);
    let leftBytes = proxy.lifeBytes();
    for (const [one, other] of [[from, to], [to, from]] as const) {
      one.on("error", () => undefined).once("close", () => {
        pairs.delete(pair);
        other.destroy();
      });
      one.on("data", (chunk) => {
        if (chunk.length < leftBytes) other.write(chunk);
        // A part of it arrives.
        else other.write(chunk.subarray(0, leftBytes), () => reset(pair));
        leftBytes = Math.max(0, leftBytes - chunk.length);
      });
    }
  }).listen(0, host);
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  let count = 0;

  const proxy: TcpProxy = {
    port,
    get count() {
      return count;
    },
    mode: "pass",
    lifeBytes: () => Infinity,
    cut(how) {
      const { size } = pairs;
      for (const pair of [...pairs]) if (how === "reset") reset(pair);
      else pair.forEach((socket) => socket.destroy());
      return size;
    },
    stall() {
      for (const pair of pairs) for (const socket of pair) socket.pause();
    },
    goOn() {
      for (const pair of pairs) for (const socket of pair) socket.resume();
    },
    close() {
      server.close();
      proxy.cut("end");
      for (const socket of alone) socket.destroy();
    },
  };
  return proxy;
}

function reset(pair: readonly [Socket, Socket]): void {
  for (const socket of pair) socket.resetAndDestroy();
}
