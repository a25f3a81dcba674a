/** What of a budget is used, in USD. */
export interface BudgetState {
  readonly maxUsd: number;
  /** By work that has ended. */
  readonly spentUsd: number;
  /** What all work in flight will have cost at the most. */
  readonly inFlightUsd: number;
  /** The most that one piece of work can cost; 0: not known yet. */
  readonly costliestUsd: number;
}

/** How many Task Managers may go on; `spent`: none, now and later. */
export interface WithinBudget {
  readonly taskManagers: number;
  readonly spent: boolean;
}

/**
 * How many Task Managers may go on, each with one piece of work after the other, so that the budget is not passed
 * whatever they take: all that is in flight may end as late as it can, and each begin once more before this is asked
 * anew. So the fleet shrinks towards the end of the money, and less than one piece of work is left of it.
 */
export function taskManagersWithin({ maxUsd, spentUsd, inFlightUsd, costliestUsd }: BudgetState): WithinBudget {
  const leftUsd = maxUsd - spentUsd;
  // One shows what they cost.
  if (costliestUsd === 0) return { taskManagers: leftUsd > 0 ? 1 : 0, spent: leftUsd <= 0 };
  const beside = Math.floor((leftUsd - inFlightUsd) / costliestUsd);
  const lasting = Math.max(1, Math.floor(leftUsd / (2 * costliestUsd)));
  return { taskManagers: Math.max(0, Math.min(beside, lasting)), spent: leftUsd < costliestUsd };
}
