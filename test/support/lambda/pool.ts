import { randomBytes } from "node:crypto";
import path from "node:path";
import { Environment } from "./environment.ts";
import type { Deployment, EnvironmentOptions } from "./environment.ts";
import { allows } from "./iam.ts";
import type { Iam } from "./iam.ts";
import type { Logs } from "./logs.ts";
import { runtimeProgram } from "./runtimes.ts";
import type { RuntimeClient } from "./runtimes.ts";
import type { Watchdog } from "./processes.ts";

export interface PoolOptions {
  readonly directory: string;
  readonly iam: Iam;
  readonly logs: Logs;
  readonly watchdog: Watchdog;
  readonly client: RuntimeClient | "auto";
  readonly loop: string;
  readonly variables: Readonly<Record<string, string>>;
  readonly secondMs: number;
  readonly lateMs: number;
  readonly initTimeoutMs: number;
  readonly memoryPollMs: number;
  /** An environment that nobody used for so long is ended. */
  readonly idleMsMax: number;
  /** An environment that is older is ended after its invocation. */
  readonly lifeMsMax: number;
}

interface Idle {
  readonly environment: Environment;
  readonly timer: NodeJS.Timeout;
}

/** Environments, warm and busy. */
export class Pool {
  readonly #options: PoolOptions;
  readonly #idle = new Map<string, Idle[]>();
  readonly #all = new Set<Environment>();
  readonly #retired = new Set<string>();
  readonly #ending = new Set<Promise<void>>();
  #made = 0;

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  get environments(): readonly Environment[] {
    return [...this.#all];
  }

  /** The one that was used last. null: none is idle. */
  take(deployment: Deployment): Environment | null {
    const idle = this.#idle.get(deployment.id)?.pop();
    if (idle === undefined) return null;
    clearTimeout(idle.timer);
    return idle.environment;
  }

  async create(deployment: Deployment): Promise<Environment> {
    const { directory, iam, logs, variables, client, loop, secondMs, lateMs, initTimeoutMs, memoryPollMs, watchdog } = this.#options;
    this.#made += 1;
    const options: EnvironmentOptions = {
      id: randomBytes(16).toString("hex"), deployment, directory: path.join(directory, `environment-${this.#made}`),
      program: runtimeProgram(deployment.runtime, client, loop),
      variables, secondMs, lateMs, initTimeoutMs, memoryPollMs, watchdog,
      log: (stream, events) => {
        const role = iam.byArn(deployment.roleArn);
        if (role === null || !allows(role, "logs:PutLogEvents")) return;
        logs.append(deployment.logGroup, stream, events, { createGroup: allows(role, "logs:CreateLogGroup") });
      },
    };
    const environment = await Environment.create(options);
    this.#all.add(environment);
    return environment;
  }

  /** After its invocation. */
  give(environment: Environment): void {
    const { deployment } = environment;
    if (this.#retired.has(deployment.id) || Date.now() - environment.startedAtMs > this.#options.lifeMsMax) return void this.end(environment);
    const timer = setTimeout(() => {
      this.#forget(environment);
      void this.end(environment);
    }, this.#options.idleMsMax);
    timer.unref();
    const idle = this.#idle.get(deployment.id) ?? [];
    idle.push({ environment, timer });
    this.#idle.set(deployment.id, idle);
  }

  /** What runs goes on to its end; no environment of the deployment is used again. */
  retire(deploymentId: string): void {
    this.#retired.add(deploymentId);
    this.reclaim(deploymentId);
  }

  /** Ends idle environments, of one deployment or all. */
  reclaim(deploymentId: string | null): void {
    for (const [id, idle] of this.#idle) {
      if (deploymentId !== null && id !== deploymentId) continue;
      this.#idle.delete(id);
      for (const { environment, timer } of idle) {
        clearTimeout(timer);
        void this.end(environment);
      }
    }
  }

  end(environment: Environment): Promise<void> {
    this.#all.delete(environment);
    const ending = environment.end().finally(() => this.#ending.delete(ending));
    this.#ending.add(ending);
    return ending;
  }

  async stop(): Promise<void> {
    this.reclaim(null);
    await Promise.all([...this.#all].map((environment) => this.end(environment)));
    await Promise.all(this.#ending);
  }

  #forget(environment: Environment): void {
    const left = (this.#idle.get(environment.deployment.id) ?? []).filter((idle) => idle.environment !== environment);
    this.#idle.set(environment.deployment.id, left);
  }
}
