import type { BackendSpec } from "../jobs/types.ts";
import type { Backend } from "./types.ts";

export interface BackendOptions {
  readonly artifactDirectory: string;
  readonly taskManagersMax: number;
}

/** A backend as the job says it; its code is loaded on first use. */
export async function createBackend(spec: BackendSpec, options: BackendOptions): Promise<Backend> {
  switch (spec.kind) {
    case "sequential":
      return (await import("./sequential.ts")).sequentialBackend(options);
    // `auto` is `local` with as many Task Managers as memory and cores allow; that was decided with the job.
    case "local":
    case "auto":
      return (await import("./local.ts")).localBackend(options);
    case "lambda":
      return (await import("./lambda/lambda.ts")).lambdaBackend({ settings: spec, taskManagersMax: options.taskManagersMax });
  }
}
