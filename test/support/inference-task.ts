import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import sharp from "sharp";
import type { InferenceTask, InferSpec, PostprocessSpec, PreprocessSpec } from "../../task-manager/protocol.ts";
import type { ExecutorContext, Host } from "../../task-manager/tasks/types.ts";
import { downloadSpec } from "./download-spec.ts";
import { meanColorModel } from "./onnx.ts";

/** A square of `size` pixels stretched from the whole image, colours in 0..1. */
export function stretchSpec(size: number, changes: Partial<PreprocessSpec> = {}): PreprocessSpec {
  return {
    concurrency: 1,
    maxPixels: 10_000_000,
    resize: { width: size, height: size, fit: "fill", kernel: "linear" },
    crop: null,
    colorOrder: "rgb",
    layout: "nchw",
    dtype: "float32",
    scale: 1 / 255,
    mean: [0, 0, 0],
    std: [1, 1, 1],
    ...changes,
  };
}

export interface InferenceTaskOptions {
  readonly model?: Buffer;
  readonly preprocess?: PreprocessSpec;
  readonly infer?: Partial<InferSpec>;
  readonly postprocess?: Partial<PostprocessSpec>;
  readonly downloads?: number;
}

/** A task whose model tells red, green and blue pictures apart, its model file in `folder`. */
export async function inferenceTask(folder: string, options: InferenceTaskOptions = {}): Promise<{ readonly task: InferenceTask; readonly modelPath: string }> {
  const model = options.model ?? meanColorModel({ input: ["N", 3, "H", "W"] });
  const sha256 = createHash("sha256").update(model).digest("hex");
  const modelPath = path.join(folder, `${sha256.slice(0, 12)}.onnx`);
  await writeFile(modelPath, model);
  const task: InferenceTask = {
    kind: "inference",
    model: { sha256, bytes: model.length, name: "model.onnx" },
    download: downloadSpec({ concurrency: options.downloads ?? 4 }),
    preprocess: options.preprocess ?? stretchSpec(8),
    infer: { batch: 4, sessions: 1, intraOpThreads: 1, interOpThreads: 1, batchWaitMs: 20, executionProviders: ["cpu"], ...options.infer },
    postprocess: { activation: "softmax", labels: ["red", "green", "blue"], topK: 1, ...options.postprocess },
  };
  return { task, modelPath };
}

/** Which of its work an executor does on the caller's thread. */
export type Here = "nothing" | "decoding" | "everything";

export function executorContext(host: Host, modelPath: string, here: Here): ExecutorContext {
  return { host, artifactPath: () => modelPath, itemTimeoutMs: 60_000, threads: here !== "everything", decodesHere: here === "decoding" };
}

export const colors = { red: "#f00", green: "#0f0", blue: "#00f", black: "#000" } as const;

/** A picture of one colour as a file; returns its path. */
export async function colorPicture(folder: string, color: keyof typeof colors): Promise<string> {
  const file = path.join(folder, `${color}.png`);
  await sharp({ create: { width: 24, height: 16, channels: 3, background: colors[color] } }).png().toFile(file);
  return file;
}
