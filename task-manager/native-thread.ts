/** Entry of the threads that decode and infer, in a bundle of its own: see `startThread`. */
import { workerData } from "node:worker_threads";

const { splitrunRole } = workerData as { readonly splitrunRole: string };
if (splitrunRole === "decode") await (await import("./pipeline/decode-thread.ts")).runDecodeThread();
else await (await import("./pipeline/infer-thread.ts")).runInferThread();
