import type { Worker } from "node:worker_threads";
import type { Overdue, WorkError, WorkItem } from "../tasks/types.ts";
import { startThread } from "../threads.ts";
import { threadsNowMs } from "./clock.ts";
import { createDecoder, type DecoderData, type FromDecoder, type ToDecoder } from "./decoder.ts";
import type { FetchedItem } from "./fetcher.ts";

/** Preprocessed images, on their way to inference. */
export interface DecodedBatch {
  readonly items: readonly WorkItem[];
  readonly buffer: ArrayBuffer;
  readonly busyMs: number;
  readonly waitMs: number;
  /** Left then, by `threadsNowMs`. */
  readonly atMs: number;
  /** Returns the buffer, by transfer, to the thread it came from. */
  giveBack(buffer: ArrayBuffer): void;
}

export interface DecoderPoolOptions {
  readonly threads: number;
  /** One on the caller's thread instead. */
  readonly here: boolean;
  readonly data: DecoderData;
  onBatch(batch: DecodedBatch): void;
  onFailed(item: WorkItem, error: WorkError): void;
  /** A thread ended by itself: the process cannot be trusted any more. */
  onDeath(why: string): void;
}

/** The main thread's side of the decoders. */
export interface DecoderPool {
  /** Items given and neither in a batch yet nor failed. */
  readonly held: number;
  /** Items whose decoding has lasted longer than that, and than `itemTimeoutMs`. */
  overdue(limitMs: number): readonly Overdue[];
  start(batch: number): void;
  /** Batches of so many images from now on, at most what was said at the start. */
  narrow(batch: number): void;
  give(images: readonly FetchedItem[]): void;
  /** Nothing is coming for now: part-full batches leave. */
  drained(): void;
  /** Waits for decodes under way. */
  close(): Promise<void>;
}

export function createDecoderPool(options: DecoderPoolOptions): DecoderPool {
  let closing = false;
  const threads = Array.from({ length: options.here ? 1 : options.threads }, () => startDecoder());

  function startDecoder() {
    const held = new Map<number, WorkItem>();
    const overdue = new Map<number, { readonly item: WorkItem; readonly sinceMs: number }>();
    const onDeath = (why: string) => {
      if (!closing) options.onDeath(why);
    };
    const { post, ended } = (options.here ? decoderHere : decoderThread)(options.data, { hear, onDeath });
    const settle = (id: number): WorkItem[] => {
      const item = held.get(id);
      held.delete(id);
      overdue.delete(id);
      return item === undefined ? [] : [item];
    };
    function hear(message: FromDecoder): void {
      switch (message.kind) {
        case "failed":
          for (const item of settle(message.id)) options.onFailed(item, message.error);
          return;
        case "overdue": {
          const item = held.get(message.id);
          if (item !== undefined) overdue.set(message.id, { item, sinceMs: message.sinceMs });
          return;
        }
        case "batch": {
          const { buffer, busyMs, waitMs, atMs } = message;
          const giveBack = (back: ArrayBuffer) => post({ kind: "slot", buffer: back }, [back]);
          return options.onBatch({ items: message.ids.flatMap(settle), buffer, busyMs, waitMs, atMs, giveBack });
        }
      }
    }
    return { held, overdue, post, ended };
  }

  let nextId = 0;
  return {
    get held() {
      return threads.reduce((sum, { held }) => sum + held.size, 0);
    },
    overdue(limitMs) {
      const nowMs = threadsNowMs();
      const late = threads.flatMap(({ overdue }) => [...overdue.values()].filter(({ sinceMs }) => nowMs - sinceMs >= limitMs));
      return late.map(({ item }) => ({ items: [item], stage: "preprocess" }));
    },
    start: (batch) => threads.forEach(({ post }) => post({ kind: "start", batch }, [])),
    narrow: (batch) => threads.forEach(({ post }) => post({ kind: "narrow", batch }, [])),
    give(images) {
      for (const [thread, share] of shares(images, threads)) {
        const ids = share.map(({ item }) => {
          thread.held.set(nextId, item);
          return nextId++;
        });
        const encoded = share.map(({ bytes }) => bytes);
        thread.post({ kind: "images", ids, encoded, sinceMs: share.map(({ atMs }) => atMs) }, encoded.map(({ buffer }) => buffer));
      }
    },
    drained: () => threads.forEach(({ post }) => post({ kind: "drained" }, [])),
    async close() {
      closing = true;
      for (const { post } of threads) post({ kind: "close" }, []);
      await Promise.all(threads.map(({ ended }) => ended));
    },
  };
}

interface Decoder {
  post(message: ToDecoder, transfer: readonly ArrayBuffer[]): void;
  readonly ended: Promise<void>;
}

interface Listeners {
  hear(message: FromDecoder): void;
  onDeath(why: string): void;
}

function decoderThread(data: DecoderData, { hear, onDeath }: Listeners): Decoder {
  const worker = startThread("decode", data);
  worker.on("message", hear);
  return { post: (message, transfer) => worker.postMessage(message, transfer), ended: endOf(worker, "decode", onDeath) };
}

/** Takes what it is told a moment later, as a thread does: never while it tells something itself. */
function decoderHere(data: DecoderData, { hear, onDeath }: Listeners): Decoder {
  let end: () => void = () => undefined;
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  const ready = createDecoder(data, { post: hear, onClosed: end });
  ready.catch((error: unknown) => {
    onDeath(`images cannot be decoded: ${error instanceof Error ? error.message : String(error)}`);
    end();
  });
  return { post: (message) => void ready.then((take) => take(message), () => undefined), ended };
}

/** Each image goes to the thread that then holds the fewest. */
function shares<T extends { readonly held: ReadonlyMap<number, WorkItem> }>(images: readonly FetchedItem[], threads: readonly T[]): Map<T, FetchedItem[]> {
  const given = new Map<T, FetchedItem[]>(threads.map((thread) => [thread, []]));
  for (const image of images) {
    let [fewest] = given;
    for (const entry of given) {
      if (fewest === undefined || entry[0].held.size + entry[1].length < fewest[0].held.size + fewest[1].length) fewest = entry;
    }
    fewest?.[1].push(image);
  }
  for (const [thread, share] of given) if (share.length === 0) given.delete(thread);
  return given;
}

/** Resolves when the thread has ended; `onDeath` hears why, asked for or not. */
export function endOf(worker: Worker, name: string, onDeath: (why: string) => void): Promise<void> {
  return new Promise((resolve) => {
    let why = "";
    worker.on("error", (error: unknown) => {
      why = error instanceof Error ? error.message : String(error);
    });
    worker.on("exit", (code) => {
      onDeath(`a ${name} thread ended (exit code ${code})${why === "" ? "" : `: ${why}`}`);
      resolve();
    });
  });
}
