import { createBackend } from "../backends/create-backend.ts";
import type { Backend } from "../backends/types.ts";
import type { BackendSpec } from "../jobs/types.ts";
import type { Cost } from "../observe/cost.ts";
import { createCostLedger } from "./cost-ledger.ts";
import { createMetering, type Metering } from "./metering.ts";
import { createPool, type ServicePool } from "./pool.ts";

/** A Task Manager without work takes memory only, and some seconds to start again. */
const keptMs = 30_000;

/** What the jobs of one process share. */
export interface Service {
  readonly pool: ServicePool;
  readonly metering: Metering;
  /** The same for the same; what could not be created may be tried again. */
  backend(spec: BackendSpec): Promise<Backend>;
  /** What environments that are kept warm have cost so far, which is no run's; null: none are. */
  keptWarm(): Cost | null;
  /** Ends all Task Managers; the jobs must have ended. */
  close(): Promise<void>;
}

export interface ServiceOptions {
  /** Task Managers at once, over all jobs. */
  readonly taskManagersMax: number;
  /** Cache of artifacts by content. */
  readonly cacheDir: string;
}

export function createService({ taskManagersMax, cacheDir }: ServiceOptions): Service {
  const metering = createMetering();
  const pool = createPool({ taskManagersMax, keptMs, metering });
  const backends = new Map<string, Promise<Backend>>();
  const warm = createCostLedger(null);

  function listenTo({ meter }: Backend): void {
    meter?.onUsage((usage) => {
      if (usage.taskManager === null) warm.add(usage);
    });
  }

  return {
    pool,
    metering,
    backend(spec) {
      const key = JSON.stringify(spec);
      const known = backends.get(key);
      if (known !== undefined) return known;
      const created = createBackend(spec, { artifactDirectory: cacheDir, taskManagersMax });
      backends.set(key, created);
      created.then(listenTo, () => backends.delete(key));
      return created;
    },
    keptWarm: () => (warm.isUsed ? warm.cost({ items: 0, duplicates: 0, inFlight: [] }) : null),
    async close() {
      await pool.close();
      await Promise.all([...backends.values()].map(async (backend) => (await backend).close()));
    },
  };
}
