import { shown, type Problem } from "./job-error.ts";
import { backendNames, policyNames } from "./names.ts";
import { valueAt, withoutField } from "./problems.ts";

/** A part of the design that cannot be asked for yet. Its neutral value is accepted, and means nothing. */
interface NotBuilt {
  readonly field: string;
  /** Problems with this field and below are explained by it. */
  readonly covers: string;
  readonly refuses: (value: unknown) => boolean;
  /** What can be given now; null: nothing. */
  readonly allowedNow: string | null;
  /** The neutral value is taken out before the job is checked. */
  readonly strip: boolean;
}

const isOneOf = (...names: readonly string[]) => (value: unknown) => typeof value === "string" && names.includes(value);
const laterBackends = isOneOf("ssh", "slurm", "pbs", "sge", "lsf");

const entry = (field: string, refuses: NotBuilt["refuses"], allowedNow: string | null, more: Partial<NotBuilt> = {}): NotBuilt =>
  ({ field, covers: field, refuses, allowedNow, strip: false, ...more });
/** A field that only has its neutral value. */
const absent = (field: string, isNeutral: (value: unknown) => boolean, allowedNow: string | null = null) =>
  entry(field, (value) => !isNeutral(value), allowedNow, { strip: true });

const table: readonly NotBuilt[] = [
  entry("backend", laterBackends, backendNames.join(", ")),
  entry("backend.kind", laterBackends, backendNames.join(", "), { covers: "backend" }),
  entry("policy", isOneOf("auto"), policyNames.join(", ")),
  entry("task.kind", isOneOf("command"), "inference, function", { covers: "task" }),
  absent("profile", isOneOf("off"), "off"),
  absent("tune", (value) => value === false),
  absent("deadlineMs", (value) => value === null),
];

export interface Refused {
  readonly problem: Problem;
  readonly covers: string;
}

/** Refuses what is not built yet, with one message each, and takes out its neutral values. */
export function notBuilt(job: unknown): { readonly refused: readonly Refused[]; readonly rest: unknown } {
  const refused: Refused[] = [];
  let rest = job;
  for (const { field, covers, refuses, allowedNow, strip } of table) {
    const value = valueAt(job, field);
    if (value === undefined) continue;
    if (refuses(value)) {
      const wayOut = allowedNow === null ? "leave it out" : `allowed now: ${allowedNow}`;
      refused.push({ covers, problem: { field, value, message: `${shown(field, value)} is not built yet; ${wayOut}` } });
    } else if (strip) {
      rest = withoutField(rest, field);
    }
  }
  return { refused, rest };
}
