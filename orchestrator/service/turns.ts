import { quotasOf, sharesOf, type Claim } from "../scheduler/shares.ts";

/** Of all Task Managers' time, what changing turns may cost. */
const changingCostMax = 0.1;
/** A turn that is mostly spent on starting is none. */
const turnInStartsMin = 3;
const turnMinMs = 1_000;
/** Until one was started. */
const startFirstMs = 300;
/** Of older starts in the mean. */
const startMemory = 0.8;
/** What a job was not given for very long does not entitle it to everything later. */
const creditMaxMs = 60_000;
/** Of equal ones, who never had any goes first. */
const creditOfNewMs = 1;
const creditInTurnMs = 1e12;
/** Below this a fraction of a Task Manager is a rounding error. */
const fractionMin = 1e-6;

/** A run that Task Managers are wanted for. */
export interface Contender extends Claim {
  /** Most that it may have, even if it cannot use them now. */
  readonly taskManagersMax: number;
  /** It has these now. */
  readonly held: number;
  /** It was allowed to have these since the last division. */
  readonly allowance: number;
}

interface Standing {
  quota: number;
  share: number;
  /** Task Manager time that it was due and not given. */
  creditMs: number;
  /** When its turn began, where it has one more than its quota says; what nobody else wanted is no turn. */
  turnSinceMs: number;
  isNew: boolean;
}

export interface Division {
  /** In the order of the contenders. */
  readonly shares: readonly number[];
  /** When somebody else has a turn; null: not before something changes. */
  readonly againInMs: number | null;
}

/**
 * Divides the Task Managers of a service among its runs: by weighted max-min of what each can use, then what nobody can
 * use to those that have it already. Where a quota is not a whole number, runs take turns, so that each has its quota
 * on average; a run that has just got its turn keeps it for a while.
 */
export class Turns<Run> {
  readonly #taskManagersMax: number;
  #standings = new Map<Run, Standing>();
  #dividedMs = 0;
  #startMs = startFirstMs;

  constructor(taskManagersMax: number) {
    this.#taskManagersMax = taskManagersMax;
  }

  /** It took this long to have a Task Manager ready. */
  started(tookMs: number): void {
    this.#startMs = startMemory * this.#startMs + (1 - startMemory) * tookMs;
  }

  divide(contenders: ReadonlyMap<Run, Contender>, nowMs: number): Division {
    const claims = [...contenders.values()];
    const standings = this.#standingsNow(contenders, nowMs);
    const quotas = quotasOf(claims, this.#taskManagersMax);
    const whole = quotas.map((quota) => Math.floor(quota + fractionMin));
    const turnMs = this.#turnMs(quotas.reduce((sum, quota, at) => sum + quota - (whole[at] ?? 0), 0));
    const inTurn = standings.map(({ share, turnSinceMs }, at) => share > (whole[at] ?? 0) && nowMs - turnSinceMs < turnMs);
    const credits = standings.map(({ creditMs, isNew }, at) => creditMs + (isNew ? creditOfNewMs : 0) + (inTurn[at] === true ? creditInTurnMs : 0));
    const shares = sharesOf(claims, this.#taskManagersMax, credits);
    let againInMs = Infinity;
    for (const [at, standing] of standings.entries()) {
      const quota = quotas[at] ?? 0;
      const share = shares[at] ?? 0;
      const hasTurn = share > quota + fractionMin;
      if (!hasTurn) standing.turnSinceMs = -Infinity;
      else if (inTurn[at] !== true) standing.turnSinceMs = nowMs;
      if (hasTurn) againInMs = Math.min(againInMs, standing.turnSinceMs + turnMs - nowMs);
      standing.quota = quota;
      standing.share = share;
      if (share > 0) standing.isNew = false;
    }
    return { shares: this.#withRest(claims, shares), againInMs: againInMs === Infinity ? null : againInMs };
  }

  /** With so many Task Managers that change hands. */
  #turnMs(changing: number): number {
    const turnInStarts = changing / this.#taskManagersMax / changingCostMax;
    return Math.max(turnMinMs, this.#startMs * Math.max(turnInStartsMin, turnInStarts));
  }

  #standingsNow(contenders: ReadonlyMap<Run, Contender>, nowMs: number): readonly Standing[] {
    const passedMs = nowMs - this.#dividedMs;
    this.#dividedMs = nowMs;
    const standings = new Map<Run, Standing>();
    for (const [run, { allowance }] of contenders) {
      const standing = this.#standings.get(run) ?? { quota: allowance, share: 0, creditMs: 0, turnSinceMs: -Infinity, isNew: true };
      const creditMs = standing.creditMs + (standing.quota - allowance) * passedMs;
      standing.creditMs = Math.max(-creditMaxMs, Math.min(creditMaxMs, creditMs));
      standings.set(run, standing);
    }
    this.#standings = standings;
    return [...standings.values()];
  }

  /** Nobody is asked to give back what nobody else can use. */
  #withRest(claims: readonly Contender[], shares: readonly number[]): readonly number[] {
    let all = shares;
    for (const upTo of [({ held, taskManagersMax }: Contender) => Math.min(held, taskManagersMax), ({ taskManagersMax }: Contender) => taskManagersMax]) {
      const rest = this.#taskManagersMax - all.reduce((sum, share) => sum + share, 0);
      const more = sharesOf(claims.map((claim, at) => ({ ...claim, wanted: Math.max(0, upTo(claim) - (all[at] ?? 0)) })), rest);
      all = all.map((share, at) => share + (more[at] ?? 0));
    }
    return all;
  }
}
