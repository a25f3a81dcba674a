import { clairvoyantBoundS, workOf } from "./bound.ts";
import { runIdeal } from "./ideal.ts";
import type { Rule, Supports } from "./rule.ts";
import { medianOf, quantileOf } from "./statistics.ts";
import type { Trace } from "./trace.ts";
import { itemsOf, runWorld, type Shares, type WorldFigures } from "./world.ts";
import { jobsOf, type Parameters, type WorkloadClass } from "./workload.ts";

export interface SeedFigures extends WorldFigures {
  readonly seed: number;
  readonly boundS: number;
}

export interface ClassFigures {
  readonly name: string;
  readonly rule: string;
  readonly seeds: number;
  readonly ratioMedian: number;
  readonly ratioP95: number;
  readonly wastePercent: number;
  readonly wasteP95Percent: number;
  readonly boundS: number;
  readonly makespanS: number;
  readonly makespanP95S: number;
  readonly assignments: number;
  readonly messages: number;
  readonly losses: number;
  readonly copied: number;
  readonly reclaimed: number;
  readonly failed: number;
  readonly costUsd: number;
  /** Seeds in which the job never ended. */
  readonly didNotEnd: number;
  /** Of each job, where there are several: median seconds from its arrival to its end. */
  readonly jobsS?: readonly number[];
}

/** No rule, but what could be reached if hand-over were free. */
export const ideal = { name: "z" } as const;

/** Whoever is simulated. */
export type Contender = Rule | typeof ideal;

export interface SimulateOptions {
  readonly rule: Contender;
  readonly supports: Supports;
  readonly shares: Shares;
}

/** One seed: the bound and what the rule made of it. */
export function simulateSeed(parameters: Parameters, seed: number, boundS: number, options: SimulateOptions, trace: Trace | null): SeedFigures {
  const { rule } = options;
  const jobs = jobsOf(parameters);
  const figures = "create" in rule ? runWorld({ parameters, jobs, seed, ...options, rule, trace }) : runIdeal({ parameters, jobs, seed });
  return { ...figures, seed, boundS };
}

export function boundOfSeed(parameters: Parameters, seed: number): number {
  return clairvoyantBoundS(parameters, seed, workOf(jobsOf(parameters).map((job, number) => itemsOf(job, number, seed))));
}

export function seedsOf({ seed, seeds }: WorkloadClass): readonly number[] {
  return Array.from({ length: seeds }, (_, offset) => seed + offset);
}

/** Medians over the seeds, and the 95th percentile where it says so. */
export function summaryOf(name: string, rule: string, seeds: readonly SeedFigures[]): ClassFigures {
  const median = (of: (seed: SeedFigures) => number): number => medianOf(seeds.map(of));
  const p95 = (of: (seed: SeedFigures) => number): number => quantileOf(seeds.map(of), 0.95);
  const ratio = ({ makespanS, boundS }: SeedFigures): number => makespanS / boundS;
  const jobs = seeds[0]?.jobsS.length ?? 0;
  return {
    name,
    rule,
    seeds: seeds.length,
    ratioMedian: median(ratio),
    ratioP95: p95(ratio),
    wastePercent: median(({ wastePercent }) => wastePercent),
    wasteP95Percent: p95(({ wastePercent }) => wastePercent),
    boundS: median(({ boundS }) => boundS),
    makespanS: median(({ makespanS }) => makespanS),
    makespanP95S: p95(({ makespanS }) => makespanS),
    assignments: median(({ assignments }) => assignments),
    messages: median(({ messages }) => messages),
    losses: median(({ losses }) => losses),
    copied: median(({ copied }) => copied),
    reclaimed: median(({ reclaimed }) => reclaimed),
    failed: median(({ failed }) => failed),
    costUsd: median(({ costUsd }) => costUsd),
    didNotEnd: seeds.filter(({ makespanS }) => makespanS === Infinity).length,
    ...(jobs > 1 ? { jobsS: Array.from({ length: jobs }, (_, job) => median(({ jobsS }) => jobsS[job] ?? Number.NaN)) } : {}),
  };
}
