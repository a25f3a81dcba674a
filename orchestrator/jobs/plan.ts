import type { JsonValue } from "../../task-manager/protocol.ts";
import { withoutSecrets } from "./job-error.ts";
import { jobForRecord } from "./record.ts";
import type { Job } from "./schema.ts";
import type { Resolution } from "./resolve.ts";
import type { Provenance } from "./types.ts";

/** `splitrun plan --json`. */
export interface Plan {
  readonly job: Job;
  readonly values: readonly Provenance[];
  /** What the job says and nothing comes of. */
  readonly withoutEffect: readonly string[];
}

export function planJson({ job, provenance, withoutEffect }: Resolution): Plan {
  return visible({ job: jobForRecord(job), values: provenance, withoutEffect }) as Plan;
}

const valueCharsMax = 60;

/** `splitrun plan`: a line a value, with the rule that it came from. */
export function formatPlan(resolution: Resolution): string {
  const plan = planJson(resolution);
  const rows = plan.values.map(({ field, value, rule }) => [field, valueText(value), rule] as const);
  const width = (column: 0 | 1) => Math.max(...rows.map((row) => row[column].length));
  const [fields, values] = [width(0), width(1)];
  const lines = rows.map(([field, value, rule]) => `${field.padEnd(fields)}  ${value.padEnd(values)}  ${rule}`.trimEnd());
  return [...lines, ...(plan.withoutEffect.length > 0 ? [""] : []), ...plan.withoutEffect.map((text) => `Note: ${text}`)].join("\n");
}

function valueText(value: JsonValue): string {
  const text = typeof value === "string" ? value : value === null ? "none" : JSON.stringify(value);
  // The end of a path tells more than its beginning.
  if (text.length > valueCharsMax) return typeof value === "string" ? `…${text.slice(1 - valueCharsMax)}` : `${text.slice(0, valueCharsMax - 1)}…`;
  return text;
}

/** A plan is for showing: its URLs lose their queries, where signatures are. */
function visible(plan: unknown): unknown {
  return JSON.parse(JSON.stringify(plan, (_key, part: unknown) => (typeof part === "string" ? withoutSecrets(part) : part)));
}
