import type { Assignment } from "./assignment.ts";
import type { Assigner } from "./assigner.ts";
import type { Fates } from "./fates.ts";
import type { Fleet } from "./fleet.ts";
import type { Holders } from "./holders.ts";
import type { Intake } from "./intake.ts";
import type { Quarantine } from "./quarantine.ts";
import { Quartile } from "./quartile.ts";
import { RemainderRule } from "./remainder.ts";
import type { SchedulerCommand, SchedulerPlan } from "./types.ts";
import type { Waiting } from "./waiting.ts";

export interface SpeculationParts {
  readonly fleet: Fleet;
  readonly assigner: Assigner;
  readonly holders: Holders;
  readonly quarantine: Quarantine;
  readonly waiting: Waiting;
  readonly intake: Intake;
  readonly fates: Fates;
}

/** What is done about stragglers. */
export interface Speculation {
  /** What there is to do now, after all that waits was handed out. Silence counts from `awakeSinceMs` on. */
  act(nowMs: number, awakeSinceMs: number): readonly SchedulerCommand[];
  /** All of it has ended, the last of it at its holder. */
  completed(assignment: Assignment, nowMs: number): void;
  /** When to look again at the latest; null: not before something happens. */
  nextMs(nowMs: number): number | null;
  /** Task Managers wanted for copies, beyond those that are idle. */
  readonly wanted: number;
}

const none: Speculation = { act: () => [], completed: () => undefined, nextMs: () => null, wanted: 0 };

/** A heartbeat comes at least three times before its absence is a loss. */
function silentMsOf({ heartbeats, heartbeatTimeoutMs }: SchedulerPlan): number {
  return heartbeats ? heartbeatTimeoutMs / 2 : Infinity;
}

export function speculationOf(plan: SchedulerPlan, parts: SpeculationParts): Speculation {
  if (plan.speculation === false) return none;
  switch (plan.speculation.kind) {
    case "remainder":
      return new RemainderRule({ ...plan.speculation, reportMs: plan.reportMs, reclaim: plan.supports.reclaim, silentMs: silentMsOf(plan) }, parts);
    case "quartile":
      return new Quartile(plan.speculation, parts);
  }
}
