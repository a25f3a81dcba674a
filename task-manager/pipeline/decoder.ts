import type { PreprocessSpec } from "../protocol.ts";
import type { WorkError } from "../tasks/types.ts";
import { createBatcher, type Place } from "./batcher.ts";
import { threadsNowMs } from "./clock.ts";
import { createInputData, viewInputData } from "./model.ts";
import { configureSharp, createPreprocessor } from "./preprocess.ts";
import { preprocessFailed } from "./work-error.ts";

export interface DecoderData {
  readonly preprocess: PreprocessSpec;
  readonly batchWaitMs: number;
  /** Batch buffers of this decoder. */
  readonly slots: number;
  /** Batches of this decoder in inference that keep the sessions busy. */
  readonly awayEnough: number;
  /** Images decoded at once. */
  readonly decodesMax: number;
  /** A decode that lasts longer is reported: it may hang. */
  readonly itemTimeoutMs: number;
}

export type ToDecoder =
  /** Comes first, once the model has said how many images a full batch has. */
  | { readonly kind: "start"; readonly batch: number }
  | { readonly kind: "narrow"; readonly batch: number }
  | { readonly kind: "images"; readonly ids: readonly number[]; readonly encoded: readonly Uint8Array[]; readonly sinceMs: readonly number[] }
  | { readonly kind: "slot"; readonly buffer: ArrayBuffer }
  /** No image is coming for now: part-full batches leave. Holds until the next images. */
  | { readonly kind: "drained" }
  /** It ends once nothing native is under way. */
  | { readonly kind: "close" };

export type FromDecoder =
  | { readonly kind: "batch"; readonly buffer: ArrayBuffer; readonly ids: readonly number[]; readonly busyMs: number; readonly waitMs: number; readonly atMs: number }
  | { readonly kind: "failed"; readonly id: number; readonly error: WorkError }
  /** `sinceMs`: begun then, by `threadsNowMs`. */
  | { readonly kind: "overdue"; readonly id: number; readonly sinceMs: number };

interface Image {
  readonly id: number;
  readonly encoded: Uint8Array;
  /** Downloaded then. */
  readonly sinceMs: number;
  waitMs: number;
  busyMs: number;
}

/** Loads what decoding needs whatever the task. */
export const prepareDecoder = configureSharp;

export interface DecoderListeners {
  /** Batch buffers may be moved: `transfer`. */
  post(message: FromDecoder, transfer: readonly ArrayBuffer[]): void;
  onClosed(): void;
}

/**
 * Decodes and preprocesses into batch buffers. The decoding itself is on libuv's threads; what follows it holds the
 * caller's thread for some milliseconds an image.
 * @returns takes what it is told
 */
export async function createDecoder(data: DecoderData, { post, onClosed }: DecoderListeners): Promise<(message: ToDecoder) => void> {
  await configureSharp();
  const preprocessor = createPreprocessor(data.preprocess);
  const form = { shape: preprocessor.shape, dtype: preprocessor.dtype, layout: data.preprocess.layout };
  const startBatcher = (rowsMax: number) =>
    createBatcher<Image>({
      rowsMax,
      slotsMax: data.slots,
      waitMs: data.batchWaitMs,
      awayEnough: data.awayEnough,
      createInputData: () => createInputData(form, rowsMax),
    });
  let batcher = startBatcher(1);
  const waiting: Image[] = [];
  let decoding = 0;
  let drained = false;
  let closing = false;
  let timer: NodeJS.Timeout | undefined;

  function pump(): void {
    clearTimeout(timer);
    if (closing) return closeWhenQuiet();
    startDecodes();
    sendBatches();
    const { dueMs } = batcher;
    if (dueMs !== null) timer = setTimeout(pump, Math.max(0, dueMs - threadsNowMs()));
  }

  function startDecodes(): void {
    while (decoding < data.decodesMax) {
      const [image] = waiting;
      const place = image && batcher.reserve(image);
      if (image === undefined || place === undefined) return;
      waiting.shift();
      decoding += 1;
      void decode(image, place).then(() => {
        decoding -= 1;
        pump();
      });
    }
  }

  async function decode(image: Image, place: Place<Image>): Promise<void> {
    const startMs = threadsNowMs();
    image.waitMs = startMs - image.sinceMs;
    const overdue = setTimeout(() => post({ kind: "overdue", id: image.id, sinceMs: startMs }, []), data.itemTimeoutMs);
    try {
      await preprocessor.run(image.encoded, place.target);
    } catch (error) {
      batcher.failed(place);
      return post({ kind: "failed", id: image.id, error: preprocessFailed(error) }, []);
    } finally {
      clearTimeout(overdue);
    }
    const endMs = threadsNowMs();
    image.busyMs = endMs - startMs;
    batcher.filled(place, endMs);
  }

  function sendBatches(): void {
    const nowMs = threadsNowMs();
    for (const { pixels, items } of batcher.leaving(nowMs, drained && waiting.length === 0)) {
      const buffer = pixels.buffer as ArrayBuffer;
      post(
        {
          kind: "batch",
          buffer,
          ids: items.map(({ id }) => id),
          busyMs: sum(items, ({ busyMs }) => busyMs),
          waitMs: sum(items, ({ waitMs }) => waitMs),
          atMs: nowMs,
        },
        [buffer],
      );
    }
  }

  function closeWhenQuiet(): void {
    if (decoding === 0) onClosed();
  }

  return (message) => {
    switch (message.kind) {
      case "start":
        batcher = startBatcher(message.batch);
        break;
      case "narrow":
        batcher.narrow(message.batch);
        break;
      case "images":
        drained = false;
        message.ids.forEach((id, at) => {
          waiting.push({ id, encoded: message.encoded[at] ?? new Uint8Array(), sinceMs: message.sinceMs[at] ?? 0, waitMs: 0, busyMs: 0 });
        });
        break;
      case "slot":
        batcher.giveBack(viewInputData(form.dtype, message.buffer));
        break;
      case "drained":
        drained = true;
        break;
      case "close":
        closing = true;
        break;
    }
    pump();
  };
}

function sum<T>(items: readonly T[], valueOf: (item: T) => number): number {
  return items.reduce((total, item) => total + valueOf(item), 0);
}
