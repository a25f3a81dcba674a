import { sharesOf } from "../../orchestrator/scheduler/shares.ts";
import { rivals } from "../../orchestrator/simulate/rivals/rivals.ts";
import { productRule, type Rule, type Supports } from "../../orchestrator/simulate/rule.ts";
import { boundOfSeed, simulateSeed, type Contender, type SeedFigures } from "../../orchestrator/simulate/simulate.ts";
import { workloadSchema, type Parameters } from "../../orchestrator/simulate/workload.ts";

export const all: Supports = { prefetch: true, reclaim: true, cancel: true };
export const none: Supports = { prefetch: false, reclaim: false, cancel: false };

export const splitrunRule = productRule(() => ({ sizing: { kind: "guided" } }), { kind: "remainder", maxExtraPercent: 10 });
export const rules: readonly Rule[] = [splitrunRule, ...Object.values(rivals)];

export function ruleNamed(name: string): Rule {
  const rule = rivals[name];
  if (rule === undefined) throw new Error(`no rule ${name}`);
  return rule;
}

/** Parameters as a workload file gives them. */
export function parametersOf(given: Readonly<Record<string, unknown>>): Parameters {
  const { classes } = workloadSchema.parse({ classes: [{ name: "test", seed: 1, seeds: 1, parameters: given }] });
  const [first] = classes;
  if (first === undefined) throw new Error("no class");
  return first.parameters;
}

/** Even items, machines that are there at once, messages that take no time: what comes out can be said beforehand. */
export function ideal(given: Readonly<Record<string, unknown>>): Parameters {
  return parametersOf({ sigma: 0, meanS: 1, warmS: [0, 0], roundTripS: [0, 0], handOverS: 0, requestS: 0, ...given });
}

export function simulated(parameters: Parameters, rule: Contender, { supports = all, seed = 1 }: { readonly supports?: Supports; readonly seed?: number } = {}): SeedFigures {
  return simulateSeed(parameters, seed, boundOfSeed(parameters, seed), { rule, supports, shares: sharesOf }, null);
}
