import { TaskRefused } from "../tasks/types.ts";
import type { TensorShape } from "../protocol.ts";
import type { Overdue, WorkItem } from "../tasks/types.ts";
import { startThread } from "../threads.ts";
import { threadsNowMs } from "./clock.ts";
import { endOf } from "./decoder-pool.ts";
import type { Outcome } from "./infer-batch.ts";
import type { FromInferThread, InferThreadData, ToInferThread } from "./infer-thread.ts";

/** Batches that a session has at once: one running and one behind it, so that it never waits for this thread. */
const batchesMax = 2;

export interface InferredBatch {
  readonly outcomes: readonly Outcome[];
  /** The batch's buffer, moved back. */
  readonly buffer: ArrayBuffer;
  readonly inferMs: number;
  readonly postprocessMs: number;
  readonly waitMs: number;
}

export interface SessionPoolOptions {
  readonly sessions: number;
  readonly data: InferThreadData;
  /** A thread ended by itself: the process cannot be trusted any more. */
  onDeath(why: string): void;
}

/** The main thread's side of the inference threads. */
export interface SessionPool {
  readonly inputs: readonly TensorShape[];
  readonly outputs: readonly TensorShape[];
  /** Images of a full batch. */
  readonly rowsMax: number;
  /** Batches that wait until a session has room. */
  readonly waiting: number;
  readonly running: number;
  /** The buffer is moved away until `onDone`. */
  run(batch: BatchToInfer, onDone: (inferred: InferredBatch) => void): void;
  /** Batches whose runs have lasted longer than this. */
  overdue(limitMs: number): readonly Overdue[];
  /** Waits for runs under way. */
  close(): Promise<void>;
}

/** The images of `items`, one behind the other. */
export interface BatchToInfer {
  readonly items: readonly WorkItem[];
  readonly buffer: ArrayBuffer;
  /** Waits since then, by `threadsNowMs`. */
  readonly atMs: number;
}

interface QueuedBatch extends BatchToInfer {
  readonly onDone: (inferred: InferredBatch) => void;
}

/** @throws TaskRefused when the model does not fit; no thread is left then. */
export async function createSessionPool(options: SessionPoolOptions): Promise<SessionPool> {
  const queue: QueuedBatch[] = [];
  let closing = false;
  const threads = Array.from({ length: options.sessions }, () =>
    startSession(options.data, {
      onRoom: dispatch,
      onDeath(why) {
        if (!closing) options.onDeath(why);
      },
    }),
  );

  function dispatch(): void {
    while (queue.length > 0) {
      const idlest = threads.reduce((best, thread) => (thread.running.size < best.running.size ? thread : best));
      const batch = idlest.running.size < batchesMax ? queue.shift() : undefined;
      if (batch === undefined) return;
      idlest.run(batch);
    }
  }

  async function close(): Promise<void> {
    closing = true;
    for (const { post } of threads) post({ kind: "close" }, []);
    await Promise.all(threads.map(({ ended }) => ended));
  }

  const opened = await Promise.allSettled(threads.map(({ ready }) => ready));
  const failed = opened.find((result) => result.status === "rejected");
  const [first] = opened;
  if (failed !== undefined || first?.status !== "fulfilled") {
    await close();
    throw failed?.reason ?? new Error("no session was asked for");
  }
  const { inputs, outputs, rowsMax } = first.value;
  return {
    inputs,
    outputs,
    rowsMax,
    get waiting() {
      return queue.length;
    },
    get running() {
      return threads.reduce((sum, { running }) => sum + running.size, 0);
    },
    run(batch, onDone) {
      queue.push({ ...batch, onDone });
      dispatch();
    },
    overdue: (limitMs) => threads.flatMap((thread) => thread.overdue(limitMs)),
    close,
  };
}

type Ready = Extract<FromInferThread, { kind: "ready" }>;

function startSession(data: InferThreadData, listeners: { onRoom(): void; onDeath(why: string): void }) {
  const worker = startThread("infer", data);
  const running = new Map<number, QueuedBatch>();
  let opened: (ready: Ready) => void;
  let refused: (why: Error) => void;
  const ready = new Promise<Ready>((resolve, reject) => {
    opened = resolve;
    refused = reject;
  });
  const post = (message: ToInferThread, transfer: readonly ArrayBuffer[]) => worker.postMessage(message, transfer);
  const ended = endOf(worker, "infer", (why) => {
    refused(new Error(why));
    listeners.onDeath(why);
  });
  worker.on("message", (message: FromInferThread) => {
    switch (message.kind) {
      case "ready":
        return opened(message);
      case "refused":
        return refused(new TaskRefused(message.message, { code: message.code, field: message.field }));
      case "batch": {
        const batch = running.get(message.id);
        running.delete(message.id);
        runningSinceMs = threadsNowMs();
        listeners.onRoom();
        return batch?.onDone(message);
      }
    }
  });
  let nextId = 0;
  let runningSinceMs = 0;
  return {
    running,
    overdue(limitMs: number): readonly Overdue[] {
      const [oldest] = running.values();
      return oldest !== undefined && threadsNowMs() - runningSinceMs > limitMs ? [{ items: oldest.items, stage: "infer" }] : [];
    },
    ready,
    ended,
    post,
    run(batch: QueuedBatch): void {
      const id = nextId++;
      if (running.size === 0) runningSinceMs = threadsNowMs();
      running.set(id, batch);
      post({ kind: "batch", id, buffer: batch.buffer, rows: batch.items.length, sinceMs: batch.atMs }, [batch.buffer]);
    },
  };
}
