import type { TaskSpec } from "../protocol.ts";
import { dropPreparedThreads } from "../threads.ts";
import type { Executor, ExecutorContext } from "./types.ts";

/** Each kind's libraries are loaded on first use: a function task never loads sharp. */
export async function createExecutor(task: TaskSpec, context: ExecutorContext): Promise<Executor> {
  switch (task.kind) {
    case "inference":
      return (await import("./inference.ts")).createInferenceExecutor(task, context);
    case "function":
      dropPreparedThreads();
      return (await import("./function.ts")).createFunctionExecutor(task, context);
  }
}
