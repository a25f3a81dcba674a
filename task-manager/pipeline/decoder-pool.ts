import type { Worker } from "node:worker_threads";
import type { Overdue, WorkError, WorkItem } from "../tasks/types.ts";
import { startThread } from "../threads.ts";
import { threadsNowMs } from "./clock.ts";
import type { DecodeThreadData, FromDecodeThread, ToDecodeThread } from "./decode-thread.ts";
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
  readonly data: DecodeThreadData;
  onBatch(batch: DecodedBatch): void;
  onFailed(item: WorkItem, error: WorkError): void;
  /** A thread ended by itself: the process cannot be trusted any more. */
  onDeath(why: string): void;
}

/** The main thread's side of the decoding threads. */
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
  const threads = Array.from({ length: options.threads }, () => startDecoder());

  function startDecoder() {
    const worker = startThread("decode", options.data);
    const held = new Map<number, WorkItem>();
    const overdue = new Map<number, { readonly item: WorkItem; readonly sinceMs: number }>();
    const ended = endOf(worker, "decode", (why) => {
      if (!closing) options.onDeath(why);
    });
    const post = (message: ToDecodeThread, transfer: readonly ArrayBuffer[]) => worker.postMessage(message, transfer);
    const settle = (id: number): WorkItem[] => {
      const item = held.get(id);
      held.delete(id);
      overdue.delete(id);
      return item === undefined ? [] : [item];
    };
    worker.on("message", (message: FromDecodeThread) => {
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
    });
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
