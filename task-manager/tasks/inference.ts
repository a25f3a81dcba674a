import type { InferenceTask } from "../protocol.ts";
import { begunItemsMax } from "../protocol.ts";
import { createDecoderPool, type DecodedBatch, type DecoderPool } from "../pipeline/decoder-pool.ts";
import { createDownloader } from "../pipeline/download.ts";
import { createFetcher } from "../pipeline/fetcher.ts";
import { inferBatch, type BatchOutcome } from "../pipeline/infer-batch.ts";
import { createInputData, openModel, type ModelOptions } from "../pipeline/model.ts";
import { createPostprocessor } from "../pipeline/postprocess.ts";
import { configureSharp, createPreprocessor } from "../pipeline/preprocess.ts";
import { createSessionPool, type SessionPool } from "../pipeline/session-pool.ts";
import { preprocessFailed } from "../pipeline/work-error.ts";
import type { Executor, ExecutorContext, Host, WorkItem } from "./types.ts";

/** Threads of libuv's pool, in which images are decoded, whatever the number of threads that ask for it. */
const nativeThreads = Number(process.env["UV_THREADPOOL_SIZE"] ?? 4);
/** Exit code of a process whose native code or thread failed. */
const brokenExitCode = 70;

/** Downloads on the caller's thread; decodes and infers on others, so that heartbeats never stop for them. */
export function createInferenceExecutor(task: InferenceTask, context: ExecutorContext): Promise<Executor> {
  return context.threads ? onThreads(task, context) : onThisThread(task, context);
}

async function onThreads(task: InferenceTask, context: ExecutorContext): Promise<Executor> {
  const { host } = context;
  const { download, infer } = task;
  const downloader = createDownloader(download);
  const onDeath = (why: string) => host.fatal(why, brokenExitCode);
  const decoders = startDecoders(task, context, {
    onBatch: (batch) => startInference(batch),
    onFailed(item, error) {
      host.error(item, error);
      pump();
    },
    onDeath,
  });
  let sessions: SessionPool;
  try {
    sessions = await createSessionPool({ sessions: infer.sessions, data: modelOptions(task, context), onDeath });
  } catch (error) {
    await Promise.all([decoders.close(), downloader.close()]);
    throw error;
  }
  decoders.start(sessions.rowsMax);
  const fetcher = createFetcher({ host, downloader, concurrency: download.concurrency, onProgress: pump });

  /** Begun and not yet in a batch: enough to fill the next one while this thread is busy elsewhere. */
  let decodingMax = sessions.rowsMax + 4 * nativeThreads;
  let beginning = 0;
  let upstreamEnded = false;
  let drained = true;

  function pump(): void {
    fetcher.pump();
    begin();
    const quiet = upstreamEnded && beginning === 0 && fetcher.waiting === 0 && fetcher.downloading === 0;
    if (quiet && !drained) decoders.drained();
    drained = quiet;
  }

  function begin(): void {
    for (;;) {
      const images = fetcher.take(Math.min(begunItemsMax, decodingMax - decoders.held - beginning));
      if (images.length === 0) return;
      beginning += images.length;
      // What was taken makes room for further downloads.
      fetcher.pump();
      void host.begun(images.map(({ item }) => item)).then(() => {
        beginning -= images.length;
        drained = false;
        decoders.give(images);
        pump();
      });
    }
  }

  function startInference({ items, buffer, busyMs, waitMs, atMs, giveBack }: DecodedBatch): void {
    host.stage("preprocess", items.length, busyMs, waitMs);
    sessions.run({ items, buffer, atMs }, (inferred) => {
      giveBack(inferred.buffer);
      reportBatch(host, items, inferred);
    });
    pump();
  }

  return {
    lanes: download.concurrency + sessions.rowsMax * 2 * infer.sessions,
    stageLanes: {
      download: download.concurrency,
      preprocess: task.preprocess.concurrency * decodesPerThread(task.preprocess.concurrency),
      infer: infer.sessions,
      postprocess: infer.sessions,
    },
    inputs: sessions.inputs,
    outputs: sessions.outputs,
    wake(ended) {
      upstreamEnded = ended;
      pump();
    },
    grant: fetcher.grant,
    thawed: () => downloader.reconnect(),
    notBegun: fetcher.items,
    unbegun: fetcher.forget,
    narrow(share) {
      const rows = Math.max(1, Math.floor(sessions.rowsMax * share));
      decodingMax = Math.max(1, Math.floor((sessions.rowsMax + 4 * nativeThreads) * share));
      fetcher.narrow(share);
      decoders.narrow(rows);
      pump();
    },
    overdue: (limitMs) => [...decoders.overdue(limitMs), ...sessions.overdue(limitMs)],
    queues: () => ({
      host: fetcher.waitingForHost,
      download: fetcher.downloading,
      preprocess: fetcher.waiting + beginning + decoders.held,
      infer: (sessions.waiting + sessions.running) * sessions.rowsMax,
    }),
    close: once(async () => {
      await Promise.all([fetcher.close(), decoders.close(), sessions.close()]);
    }),
  };
}

/** Decodes at once on each of `threads`: the native threads are busy, with one image behind them. */
function decodesPerThread(threads: number): number {
  return Math.max(2, Math.ceil((nativeThreads + 1) / threads));
}

type DecoderListeners = Pick<Parameters<typeof createDecoderPool>[0], "onBatch" | "onFailed" | "onDeath">;

function startDecoders({ preprocess, infer }: InferenceTask, { itemTimeoutMs, decodesHere = false }: ExecutorContext, listeners: DecoderListeners): DecoderPool {
  const threads = preprocess.concurrency;
  return createDecoderPool({
    threads,
    here: decodesHere,
    data: {
      preprocess,
      batchWaitMs: infer.batchWaitMs,
      // One for each session to work on, one behind it or coming back, one being filled.
      slots: Math.max(2, Math.ceil((infer.sessions + 2) / threads)),
      awayEnough: Math.max(1, Math.ceil(infer.sessions / threads)),
      decodesMax: decodesPerThread(threads),
      itemTimeoutMs,
    },
    ...listeners,
  });
}

function modelOptions(task: InferenceTask, { artifactPath }: ExecutorContext): ModelOptions {
  const { shape, dtype } = createPreprocessor(task.preprocess);
  return {
    path: artifactPath(task.model.sha256),
    name: task.model.name,
    infer: task.infer,
    input: { shape, dtype, layout: task.preprocess.layout },
    postprocess: task.postprocess,
  };
}

/** The time of a run is shared among its images, so that the sum is what the sessions were busy. */
function reportBatch(host: Host, items: readonly WorkItem[], { outcomes, inferMs, postprocessMs, waitMs }: BatchOutcome & { readonly waitMs: number }): void {
  host.stage("infer", items.length, inferMs, waitMs * items.length);
  host.stage("postprocess", items.length, postprocessMs, 0);
  items.forEach((item, row) => {
    const outcome = outcomes[row];
    if (outcome === undefined) return;
    if (outcome.error !== undefined) host.error(item, outcome.error);
    else host.result(item, outcome.output);
  });
}

/** Everything on the caller's thread, a batch at a time: breakpoints work, a hang hangs. */
async function onThisThread(task: InferenceTask, context: ExecutorContext): Promise<Executor> {
  const { host } = context;
  await configureSharp();
  const preprocessor = createPreprocessor(task.preprocess);
  const options = modelOptions(task, context);
  const model = await openModel(options);
  const postprocess = createPostprocessor(task.postprocess, model.scores);
  const pixels = createInputData(options.input, model.rowsMax);
  const length = pixels.length / model.rowsMax;
  const fetcher = createFetcher({
    host,
    downloader: createDownloader(task.download),
    concurrency: Math.min(task.download.concurrency, model.rowsMax),
    onProgress: wake,
  });
  let working: Promise<void> | undefined;
  let closed = false;

  function wake(): void {
    fetcher.pump();
    if (working !== undefined || closed || fetcher.waiting === 0) return;
    // A batch waits for what is being downloaded along with it.
    if (fetcher.downloading > 0 && fetcher.waiting < model.rowsMax) return;
    working = workOff().finally(() => {
      working = undefined;
      wake();
    });
  }

  async function workOff(): Promise<void> {
    const images = fetcher.take(Math.min(model.rowsMax, begunItemsMax));
    await host.begun(images.map(({ item }) => item));
    const items: WorkItem[] = [];
    for (const { item, bytes } of images) {
      const startMs = performance.now();
      try {
        await preprocessor.run(bytes, pixels.subarray(items.length * length, (items.length + 1) * length));
        items.push(item);
      } catch (error) {
        host.error(item, preprocessFailed(error));
      }
      host.stage("preprocess", 1, performance.now() - startMs, 0);
    }
    if (items.length === 0) return;
    reportBatch(host, items, { ...(await inferBatch(model, postprocess, pixels, items.length)), waitMs: 0 });
  }

  return {
    lanes: model.rowsMax,
    stageLanes: { download: 1, preprocess: 1, infer: 1, postprocess: 1 },
    inputs: model.inputs,
    outputs: model.outputs,
    wake,
    grant: fetcher.grant,
    notBegun: fetcher.items,
    unbegun: fetcher.forget,
    narrow: fetcher.narrow,
    overdue: () => [],
    queues: () => ({ host: fetcher.waitingForHost, download: fetcher.downloading, preprocess: fetcher.waiting }),
    close: once(async () => {
      closed = true;
      await fetcher.close();
      await working;
      await model.close();
    }),
  };
}

function once(close: () => Promise<void>): () => Promise<void> {
  let closing: Promise<void> | undefined;
  return () => (closing ??= close());
}
