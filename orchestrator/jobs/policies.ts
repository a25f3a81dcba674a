import { pathToFileURL } from "node:url";
import { SplitrunError } from "../errors.ts";
import type { PolicyName } from "./names.ts";

/** What a policy is told: the job's own values, or the defaults where the job is silent. */
export interface PolicyRequest {
  /** Items in the job. */
  readonly items: number;
  readonly splitSize: number;
  readonly taskManagers: number;
  /** What the number of Task Managers is cut to afterwards. */
  readonly taskManagersMax: number;
}

/** What a policy changes; what it leaves out stays. Whole numbers from 1. */
export interface PolicyDecision {
  readonly splitSize?: number;
  readonly taskManagers?: number;
}

export type Policy = (request: PolicyRequest) => PolicyDecision | Promise<PolicyDecision>;

/** Splits of this many items where the job is silent: the original's. */
export const splitSizeDefault = 32;

/**
 * For `policy-3`: from the number of items (nearest one; the smaller of two) to split size and Task Managers. Small
 * jobs get splits of one item, so that all can start at once; large ones get splits that cost little to hand over
 * and are still many a Task Manager, so that the last ones end together.
 */
export const policy3Table: readonly { readonly items: number; readonly splitSize: number; readonly taskManagers: number }[] = [
  { items: 1, splitSize: 1, taskManagers: 1 },
  { items: 16, splitSize: 1, taskManagers: 4 },
  { items: 64, splitSize: 2, taskManagers: 8 },
  { items: 256, splitSize: 4, taskManagers: 16 },
  { items: 1024, splitSize: 8, taskManagers: 32 },
  { items: 4096, splitSize: 16, taskManagers: 64 },
  { items: 16_384, splitSize: 32, taskManagers: 100 },
  { items: 65_536, splitSize: 64, taskManagers: 100 },
  { items: 262_144, splitSize: 128, taskManagers: 100 },
  { items: 1_048_576, splitSize: 256, taskManagers: 100 },
];

type FixedPolicyName = Exclude<PolicyName, "guided">;

const policies: Readonly<Record<FixedPolicyName, (request: PolicyRequest) => PolicyDecision>> = {
  /** One split a Task Manager. */
  default: ({ items, splitSize }) => ({ taskManagers: atLeastOne(items / splitSize) }),
  /** What the job says. */
  none: () => ({}),
  /** The items in as many splits as there are Task Managers. */
  "policy-1": ({ items, taskManagers }) => ({ splitSize: atLeastOne(items / taskManagers) }),
  /** The same, with the job's split size as the most. */
  "policy-2": ({ items, taskManagers, splitSize }) => ({ splitSize: Math.min(splitSize, atLeastOne(items / taskManagers)) }),
  "policy-3": ({ items }) => {
    const { splitSize, taskManagers } = policy3Table.reduce((best, row) =>
      Math.abs(row.items - items) < Math.abs(best.items - items) ? row : best);
    return { splitSize, taskManagers };
  },
};

/** Does the policy have to know how many items there are? Files are counted then, and streams spooled, before the run. */
export function needsCount(policy: string | Policy | undefined): boolean {
  return policy !== undefined && policy !== "guided" && policy !== "none";
}

/** How a policy is called in plans and records. */
export function policyName(policy: string | Policy): string {
  return typeof policy === "function" ? "function" : policy;
}

/**
 * Asks a policy, `guided` apart, which sizes splits while the job runs.
 * @throws SplitrunError POLICY_INVALID when the user's own cannot be loaded, throws, or answers something else.
 */
export async function askPolicy(policy: string | Policy, request: PolicyRequest): Promise<PolicyDecision> {
  if (typeof policy === "string" && isFixed(policy)) return policies[policy](request);
  const own = typeof policy === "function" ? policy : await loadPolicy(policy);
  let decision: unknown;
  try {
    decision = await own(request);
  } catch (cause) {
    throw invalid(policy, `threw ${cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause)}`, cause);
  }
  return checked(policy, decision);
}

function isFixed(name: string): name is FixedPolicyName {
  return Object.hasOwn(policies, name);
}

/** @param place `/absolute/module.mjs#function` */
async function loadPolicy(place: string): Promise<Policy> {
  const at = place.lastIndexOf("#");
  const [file, name] = [place.slice(0, at), place.slice(at + 1)];
  let module: Readonly<Record<string, unknown>>;
  try {
    module = (await import(pathToFileURL(file).href)) as Readonly<Record<string, unknown>>;
  } catch (cause) {
    throw invalid(place, `could not be loaded: ${cause instanceof Error ? cause.message : String(cause)}`, cause);
  }
  const policy = module[name];
  if (typeof policy === "function") return policy as Policy;
  const functions = Object.keys(module).filter((key) => typeof module[key] === "function");
  throw invalid(place, `exports no function ${name}; it exports: ${functions.join(", ") || "none"}`);
}

function checked(policy: string | Policy, decision: unknown): PolicyDecision {
  if (typeof decision !== "object" || decision === null) throw invalid(policy, `returned ${String(decision)}, not { splitSize, taskManagers }`);
  const { splitSize, taskManagers, ...rest } = decision as Readonly<Record<string, unknown>>;
  const [stranger] = Object.keys(rest);
  if (stranger !== undefined) throw invalid(policy, `returned ${stranger}; allowed: splitSize, taskManagers`);
  return {
    ...(splitSize === undefined ? {} : { splitSize: wholeNumber(policy, "splitSize", splitSize) }),
    ...(taskManagers === undefined ? {} : { taskManagers: wholeNumber(policy, "taskManagers", taskManagers) }),
  };
}

function wholeNumber(policy: string | Policy, field: string, value: unknown): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 1) return value;
  throw invalid(policy, `returned ${field}: ${String(value)}; allowed: a whole number from 1`);
}

function invalid(policy: string | Policy, what: string, cause?: unknown): SplitrunError {
  return new SplitrunError(`policy: ${policyName(policy)} ${what}`, { code: "POLICY_INVALID", field: "policy", value: policyName(policy), cause });
}

/** A job without items still has a split size and a Task Manager to plan with. */
function atLeastOne(count: number): number {
  return Math.max(1, Math.ceil(count));
}
