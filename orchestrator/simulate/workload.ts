import * as z from "zod";

const positive = z.number().positive();
const share = z.number().min(0).max(1);
const seconds = z.number().nonnegative();
const count = z.number().int().positive();
const span = z.tuple([seconds, seconds]).refine(([low, high]) => low <= high, "must be [low, high], low first");

const itemFields = {
  items: count,
  meanS: positive,
  sigma: z.number().nonnegative(),
  /** Additional wall-clock time of a share of the items: Pareto. */
  tail: z.strictObject({ share: share.default(0), alpha: positive.default(1.5), scale: positive.default(0.25), cap: positive.default(20) }),
  /** Share of items that hang until `itemTimeoutS` and end as an error. */
  poison: share,
};

const itemDefaults = { items: 10_000, meanS: 0.05, sigma: 0.3, poison: 0 };
const noTail = { share: 0, alpha: 1.5, scale: 0.25, cap: 20 };

const jobSchema = z.strictObject({
  items: count.optional(),
  meanS: positive.optional(),
  sigma: z.number().nonnegative().optional(),
  tail: itemFields.tail.optional(),
  poison: share.optional(),
  /** Of the task managers, against the other jobs'. */
  share: positive.default(1),
  priority: z.number().int().default(0),
  /** When it is asked for. */
  arrivesS: seconds.default(0),
});

const parametersSchema = z.strictObject({
  items: itemFields.items.default(itemDefaults.items),
  meanS: itemFields.meanS.default(itemDefaults.meanS),
  sigma: itemFields.sigma.default(itemDefaults.sigma),
  tail: itemFields.tail.default(noTail),
  poison: itemFields.poison.default(itemDefaults.poison),
  itemTimeoutS: positive.default(30),
  /** Machines, so Task Managers at most. */
  workers: count.default(100),
  /** Items in flight at once at a machine; the product's Task Manager has 32. */
  lanes: count.default(1),
  /** Share of first starts that are cold; a replacement is cold wherever this is above 0. */
  coldShare: share.default(0),
  cold: z
    .strictObject({ medianS: positive.default(1.5), sigma: z.number().nonnegative().default(0.596), cap: positive.default(20) })
    .default({ medianS: 1.5, sigma: 0.596, cap: 20 }),
  warmS: span.default([0.02, 0.05]),
  slow: z.array(z.strictObject({ share, factor: positive })).default([]),
  stallPerMin: seconds.default(0),
  stallS: span.default([5, 60]),
  deathPerMin: seconds.default(0),
  /** Of the deaths: silent ones. */
  suddenShare: share.default(0.5),
  lifetimeS: positive.default(900),
  roundTripS: span.default([0.005, 0.05]),
  handOverS: seconds.default(0.01),
  /** To send an assignment where it travels in a request. */
  requestS: seconds.default(0.04),
  /** Machines that can be had: `burst` at once, `perS` more each second; launches above are refused as throttled. */
  throttle: z.strictObject({ burst: count, perS: positive }).nullable().default(null),
  /** Share of launches that end without a Task Manager. */
  launchFailShare: share.max(0.95).default(0),
  /** Share of messages that never arrive. */
  messageLoss: share.max(0.5).default(0),
  /** Share of messages that are held up for up to `maxS`, and those behind them too. */
  messageDelay: z.strictObject({ share, maxS: seconds }).default({ share: 0, maxS: 0 }),
  reportS: positive.default(0.25),
  heartbeatS: positive.default(2),
  heartbeatTimeoutS: positive.default(6),
  /** Several jobs at once; what one does not say is as above. */
  jobs: z.array(jobSchema).min(1).optional(),
});

const classSchema = z.strictObject({
  name: z.string().min(1),
  seed: z.number().int().nonnegative(),
  seeds: count,
  about: z.string().default(""),
  parameters: parametersSchema,
});

/** The file: classes of workloads. Times in seconds, as in the model that bench/simulation/README.md states. */
export const workloadSchema = z.strictObject({ about: z.string().default(""), classes: z.array(classSchema).min(1) });

export type Workload = z.infer<typeof workloadSchema>;
export type WorkloadClass = z.infer<typeof classSchema>;
export type Parameters = z.infer<typeof parametersSchema>;

export interface ItemModel {
  readonly items: number;
  readonly meanS: number;
  readonly sigma: number;
  readonly tail: { readonly share: number; readonly alpha: number; readonly scale: number; readonly cap: number };
  readonly poison: number;
  readonly itemTimeoutS: number;
}

export interface JobModel extends ItemModel {
  readonly share: number;
  readonly priority: number;
  readonly arrivesS: number;
}

/** The jobs of a class, complete; one where it names none. */
export function jobsOf(parameters: Parameters): readonly JobModel[] {
  const { items, meanS, sigma, tail, poison, itemTimeoutS, jobs } = parameters;
  const common = { items, meanS, sigma, tail, poison, itemTimeoutS };
  if (jobs === undefined) return [{ ...common, share: 1, priority: 0, arrivesS: 0 }];
  return jobs.map((job) => ({
    items: job.items ?? items,
    meanS: job.meanS ?? meanS,
    sigma: job.sigma ?? sigma,
    tail: job.tail ?? tail,
    poison: job.poison ?? poison,
    itemTimeoutS,
    share: job.share,
    priority: job.priority,
    arrivesS: job.arrivesS,
  }));
}
