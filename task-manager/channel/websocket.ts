import { createHash, randomBytes } from "node:crypto";
import { isIP } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { connect, type TLSSocket } from "node:tls";
import type { WebSocket } from "ws";
import type { DialTarget, OrchestratorMessage } from "../protocol.ts";
import { dialedFrameBytesMax, orchestratorMessage, sessionHeader } from "../protocol.ts";
import { dialedLimits, ResumableChannel } from "./resumable.ts";
import { carry } from "./web-socket-wire.ts";

/** To connect, and again to be let in; the first time with all that is tried. */
const dialMs = 10_000;
const firstTriesMax = 3;
/** Before it is dialed again: less than this, doubled each time up to the maximum. */
const backOffMs = 100;
const backOffMsMax = 2_000;
/** Parts of the time in which it may come back: for one try, and from one ping to the next. */
const triesAtLeast = 4;
const pingsAWindow = 8;
const pingMsMin = 50;
const pingMsMax = 5_000;
const tryMsMin = 500;
/** Pings without a byte in return, until another connection is tried beside this one. */
const unansweredMax = 2;
/** Silent for so long it is given up: an orchestrator that was stopped (Ctrl-Z) may go on, a machine that is gone may not. */
const silentMsMax = 60_000;
/** What is said of now, and is of no use once there is much to be sent again. */
const expendable: ReadonlySet<string> = new Set(["heartbeat", "hosts", "log"]);

/** Another try would end the same. */
class TurnedAway extends Error {}

/**
 * The Task Manager's end of a WebSocket that it opens: TLS, where the certificate is known by its fingerprint, before the
 * token is shown. It outlives the connection: a lost one is dialed again. A message that breaks the protocol ends it.
 * @throws Error that names address and reason, and not the token, where nobody could be spoken to in the first place
 */
export async function dialIn<Out extends { readonly kind: string }>(target: DialTarget): Promise<ResumableChannel<Out, OrchestratorMessage>> {
  const dialer = new Dialer<Out>(target);
  await dialer.dialFirst();
  return dialer.channel;
}

class Dialer<Out extends { readonly kind: string }> {
  readonly channel: ResumableChannel<Out, OrchestratorMessage>;
  readonly #target: DialTarget;
  /** Made up here, so that it is known on both sides even when the answer to the first connection is lost. */
  readonly #session = randomBytes(32).toString("base64url");
  /** By `performance.now()`; null: it is taken up. */
  #lostAtMs: number | null = null;
  #isConnected = false;
  /** Connected, and not heard of. */
  #isSilent = false;
  #isComingBack = false;
  #tries = 0;

  constructor(target: DialTarget) {
    this.#target = target;
    this.channel = new ResumableChannel<Out, OrchestratorMessage>({
      limits: dialedLimits,
      messageOf: (value) => orchestratorMessage.safeParse(value).data ?? null,
      isExpendable: ({ kind }) => expendable.has(kind),
      // While it is full nothing is begun, so no more comes than what is begun.
      heldBytesMax: Infinity,
      onResumed: () => {
        this.#lostAtMs = null;
        this.#tries = 0;
      },
    });
  }

  /** @throws Error that names address and reason */
  async dialFirst(): Promise<void> {
    const untilMs = performance.now() + dialMs;
    for (let tries = 1; ; tries++) {
      try {
        return await this.#dial(untilMs - performance.now());
      } catch (error) {
        if (error instanceof TurnedAway || tries >= firstTriesMax || performance.now() >= untilMs) throw error;
      }
      await delay(Math.random() * backOffMs);
    }
  }

  /** @throws Error that names address and reason, TurnedAway when it is no use to try again */
  async #dial(withinMs: number): Promise<void> {
    const place = `${this.#target.host}:${this.#target.port}`;
    const socket = await pinned(this.#target, place, withinMs);
    const { WebSocket: Client } = await import("ws");
    const headers = { authorization: `Bearer ${this.#target.token}`, [sessionHeader]: this.#session };
    const webSocket = new Client("wss://orchestrator/", {
      createConnection: () => socket, headers, maxPayload: dialedFrameBytesMax, perMessageDeflate: false, handshakeTimeout: withinMs,
    });
    // Its first message may come at once.
    await opened(webSocket, place, () => {
      this.#isConnected = true;
      this.#isSilent = false;
      this.#watch(webSocket, socket);
      carry(this.channel, webSocket, () => this.#lose());
    });
  }

  /** A connection can be dead without anybody's having said so. */
  #watch(webSocket: WebSocket, socket: TLSSocket): void {
    const everyMs = Math.min(pingMsMax, Math.max(pingMsMin, this.#target.comeBackWithinMs / pingsAWindow));
    const givenUpAfter = Math.max(unansweredMax, silentMsMax / everyMs);
    let unanswered = 0;
    let bytesRead = 0;
    const look = () => {
      if (webSocket.readyState !== webSocket.OPEN) return;
      const isHeard = socket.bytesRead !== bytesRead;
      bytesRead = socket.bytesRead;
      // Pings are counted, not time: while this process is stopped it sends none.
      unanswered = isHeard ? 0 : unanswered + 1;
      if (unanswered > givenUpAfter) return webSocket.terminate();
      this.#isSilent = unanswered > unansweredMax;
      if (this.#isSilent) void this.#comeBack();
      if (!isHeard) webSocket.ping();
    };
    const timer = setInterval(look, everyMs);
    webSocket.once("close", () => clearInterval(timer));
  }

  #lose(): void {
    this.#isConnected = false;
    this.#isSilent = false;
    this.#lostAtMs ??= performance.now();
    void this.#comeBack();
  }

  async #comeBack(): Promise<void> {
    if (this.#isComingBack) return;
    this.#isComingBack = true;
    let why = "";
    while (this.#isOut && this.#leftMs > 0) {
      await delay(Math.min(this.#leftMs, Math.random() * Math.min(backOffMsMax, backOffMs * 2 ** this.#tries)));
      this.#tries += 1;
      if (this.#isOut && this.#leftMs > 0) why = await this.#tryOnce();
    }
    this.#isComingBack = false;
    if (this.#isOut) this.channel.end(`it was lost, and could not be taken up again within ${this.#target.comeBackWithinMs / 1000} s${why}`);
  }

  /** Why not, in words. */
  async #tryOnce(): Promise<string> {
    const oneOfMs = Math.max(tryMsMin, this.#target.comeBackWithinMs / triesAtLeast);
    try {
      await this.#dial(Math.min(dialMs, oneOfMs, this.#leftMs));
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      if (error instanceof TurnedAway) this.channel.end(`it was lost, and ${message}`);
      return `: ${message}`;
    }
    return "";
  }

  get #isOut(): boolean {
    return !this.channel.isOver && (!this.#isConnected || this.#isSilent);
  }

  /** A connection that is only silent is not given up for another one that cannot be had. */
  get #leftMs(): number {
    return this.#lostAtMs === null ? Infinity : this.#lostAtMs + this.#target.comeBackWithinMs - performance.now();
  }
}

/** Names and authorities mean nothing here; that the other side has the certificate's key is TLS's own to check. */
function pinned({ host, port, fingerprint }: DialTarget, place: string, withinMs: number): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, rejectUnauthorized: false, minVersion: "TLSv1.3", ...(isIP(host) === 0 ? { servername: host } : {}) });
    const fail = (error: Error) => {
      clearTimeout(timer);
      socket.destroy();
      reject(error);
    };
    const timer = setTimeout(() => fail(new Error(`${place} did not answer within ${Math.ceil(withinMs / 100) / 10} s`)), withinMs);
    socket.once("error", (error: NodeJS.ErrnoException) => fail(new Error(`${place} could not be connected to (${error.code ?? error.message})`)));
    socket.once("secureConnect", () => {
      const seen = createHash("sha256").update(socket.getPeerCertificate().raw ?? "").digest("hex");
      if (seen !== fingerprint) return fail(new TurnedAway(`${place} has another certificate than the orchestrator's`));
      clearTimeout(timer);
      socket.removeAllListeners("error");
      socket.on("error", () => undefined);
      resolve(socket);
    });
  });
}

function opened(webSocket: WebSocket, place: string, onOpen: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    webSocket.on("error", () => reject(new Error(`${place} did not go on with the connection`)));
    webSocket.once("unexpected-response", (_request, { statusCode }) => {
      reject(new TurnedAway(answered(place, statusCode)));
      webSocket.terminate();
    });
    webSocket.once("open", () => {
      onOpen();
      resolve();
    });
  });
}

function answered(place: string, statusCode: number | undefined): string {
  if (statusCode === 401) return `${place} does not know the token`;
  if (statusCode === 410) return `${place} does not wait for this Task Manager any more`;
  return `${place} answered ${statusCode}`;
}
