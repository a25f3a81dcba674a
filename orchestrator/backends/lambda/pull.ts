import type { LambdaLine } from "../../../task-manager/protocol.ts";
import { SplitrunError } from "../../errors.ts";
import type { PullSpec } from "../../jobs/types.ts";
import { listenForTaskManagers, type DialIn } from "../dial-in.ts";
import { lambdaLineOf } from "../messages.ts";
import type { LaunchSpec } from "../types.ts";
import { instanceMetadata } from "./instance-metadata.ts";
import { startPullSlot, type PullSlotParts } from "./pull-slot.ts";
import type { Slot, SlotParts } from "./slot.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** Where invocations dial in. */
export interface PullEnd {
  /** Under which functions reach it. */
  readonly host: string;
  readonly dialIn: DialIn<LambdaLine>;
}

/** Slots whose invocations dial in. */
export interface Pull {
  startSlot(spec: LaunchSpec): Slot;
  close(): Promise<void>;
}

/**
 * Listens where functions in the same VPC reach this machine: the address that was given, else its private one on EC2.
 * @throws SplitrunError LAMBDA_PULL when there is no such address, or it cannot be listened on
 */
export async function openPull(spec: PullSpec, parts: SlotParts, environment: Environment): Promise<Pull> {
  const pull = await listen(spec, environment);
  const trailing = new Set<Promise<unknown>>();
  const trail = (end: Promise<unknown>) => {
    trailing.add(end);
    void end.finally(() => trailing.delete(end));
  };
  const pullParts: PullSlotParts = { ...parts, pull, trail };
  return {
    startSlot: (spec) => startPullSlot(spec, pullParts),
    async close() {
      // What they took is known when they have ended.
      await Promise.all(trailing);
      pull.dialIn.close();
    },
  };
}

async function listen({ address, host, port }: PullSpec, environment: Environment): Promise<PullEnd> {
  const reachedAt = address ?? (await privateAddress(environment));
  const listenHost = host ?? reachedAt;
  const dialIn = await listenForTaskManagers({ host: listenHost, port, messageOf: lambdaLineOf }).catch((cause: unknown) => {
    throw new SplitrunError(`backend.pull: cannot listen on ${listenHost}, port ${port} (${codeOf(cause)}); give backend.pull.host, an address of this machine, or another backend.pull.port`, {
      code: "LAMBDA_PULL", field: host === null ? "backend.pull.address" : "backend.pull.host", value: listenHost, cause,
    });
  });
  return { host: reachedAt, dialIn };
}

async function privateAddress(environment: Environment): Promise<string> {
  try {
    return await (await instanceMetadata(environment))("local-ipv4");
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new SplitrunError(`backend.pull: the address under which functions reach this machine could not be found by its metadata service (${why}); run on EC2 in the function's VPC, give backend.pull.address, or leave pull out: streaming needs no way back`, {
      code: "LAMBDA_PULL", field: "backend.pull.address", value: null, cause,
    });
  }
}

function codeOf(cause: unknown): string {
  return cause instanceof Error ? ((cause as NodeJS.ErrnoException).code ?? cause.message) : String(cause);
}
