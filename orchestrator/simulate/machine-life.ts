import { seededRandom } from "../scheduler/random.ts";
import { between, exponential, normalFrom, streamSeed } from "./chance.ts";
import type { Parameters } from "./workload.ts";

const lifeSalt = 0x11fe;
const pauseSalt = 0x9a05e;

/** One environment from its start to its end: what it is and when it can work. Nobody's decision changes it. */
export class Life {
  /** Can work from here on. */
  readonly readyS: number;
  readonly endS: number;
  /** When it would have ended without an accident: until then nobody can be sure that a silent one is dead. */
  readonly lifetimeEndS: number;
  /** Its end is not told. */
  readonly silent: boolean;
  readonly cold: boolean;
  /** Of the time that work takes. */
  readonly factor: number;
  readonly roundTripS: number;
  readonly #pausesPerS: number;
  readonly #pauseSpan: readonly [number, number];
  readonly #pauseRandom: () => number;
  readonly #pauses: (readonly [number, number])[] = [];
  #knownToS: number;

  constructor(parameters: Parameters, seed: number, startS: number, first: boolean) {
    const random = seededRandom(seed);
    const { coldShare, cold, warmS, slow, deathPerMin, suddenShare, lifetimeS, roundTripS, stallPerMin, stallS } = parameters;
    const coldDraw = random();
    this.cold = first ? coldDraw < coldShare : coldShare > 0;
    const coldS = Math.min(cold.cap, cold.medianS * Math.exp(cold.sigma * normalFrom(random(), random())));
    const delayS = between(warmS, random());
    this.readyS = startS + (this.cold ? coldS : delayS);
    this.factor = factorFrom(slow, random());
    this.roundTripS = between(roundTripS, random());
    this.lifetimeEndS = this.readyS + lifetimeS;
    const deathS = this.readyS + exponential(deathPerMin / 60, random());
    const suddenDraw = random();
    this.endS = Math.min(deathS, this.lifetimeEndS);
    this.silent = deathS < this.lifetimeEndS && suddenDraw < suddenShare;
    this.#pausesPerS = stallPerMin / 60;
    this.#pauseSpan = [Math.log(stallS[0]), Math.log(stallS[1])];
    this.#pauseRandom = seededRandom(streamSeed(seed, 0, pauseSalt));
    this.#knownToS = this.#pausesPerS > 0 ? this.readyS : Infinity;
  }

  /** The time itself, or the end of the pause that it is in. */
  awakeAt(timeS: number): number {
    for (let at = this.#pauseAfter(timeS); ; at++) {
      const pause = this.#pauses[at];
      if (pause === undefined || pause[0] > timeS) return timeS;
      if (timeS < pause[1]) return pause[1];
    }
  }

  /** When work of so many seconds is over that was begun at a time out of pauses. */
  workedAt(fromS: number, durationS: number): number {
    let endS = fromS + durationS;
    for (let at = this.#pauseAfter(fromS); ; at++) {
      this.#knowTo(endS);
      const pause = this.#pauses[at];
      if (pause === undefined || pause[0] >= endS) return endS;
      endS += pause[1] - pause[0];
    }
  }

  /** Seconds in which it can work until then. */
  activeS(untilS: number): number {
    const endS = Math.min(untilS, this.endS);
    if (endS <= this.readyS) return 0;
    this.#knowTo(endS);
    let activeS = endS - this.readyS;
    for (const [from, to] of this.#pauses) {
      if (from >= endS) break;
      activeS -= Math.min(to, endS) - from;
    }
    return activeS;
  }

  /** For pictures. */
  pausesUntil(untilS: number): readonly (readonly [number, number])[] {
    this.#knowTo(untilS);
    return this.#pauses.filter(([from]) => from < Math.min(untilS, this.endS));
  }

  /** Place of the first pause that ends after the time. */
  #pauseAfter(timeS: number): number {
    this.#knowTo(timeS);
    let at = this.#pauses.length;
    while (at > 0 && (this.#pauses[at - 1]?.[1] ?? 0) > timeS) at -= 1;
    return at;
  }

  #knowTo(timeS: number): void {
    while (this.#knownToS <= timeS) {
      const from = this.#knownToS + exponential(this.#pausesPerS, this.#pauseRandom());
      const to = from + Math.exp(between(this.#pauseSpan, this.#pauseRandom()));
      this.#pauses.push([from, to]);
      this.#knownToS = to;
    }
  }
}

/** A place for one machine at a time: when one ends, the next is started there at once. */
export class Slot {
  readonly number: number;
  /** From when on the place can be had at all. */
  readonly fromS: number;
  readonly #parameters: Parameters;
  readonly #seed: number;
  readonly #lives: Life[] = [];

  constructor(parameters: Parameters, seed: number, number: number) {
    const { throttle } = parameters;
    this.number = number;
    this.fromS = throttle === null ? 0 : Math.max(0, number + 1 - throttle.burst) / throttle.perS;
    this.#parameters = parameters;
    this.#seed = streamSeed(seed, number, lifeSalt);
  }

  life(ordinal: number): Life {
    for (;;) {
      const known = this.#lives[ordinal];
      if (known !== undefined) return known;
      const last = this.#lives.at(-1);
      const next = streamSeed(this.#seed, this.#lives.length, lifeSalt);
      this.#lives.push(new Life(this.#parameters, next, last?.endS ?? this.fromS, last === undefined));
    }
  }

  /** The one that lives, or is being started, at that time. */
  lifeAt(timeS: number): Life {
    let ordinal = 0;
    while (this.life(ordinal).endS <= timeS) ordinal += 1;
    return this.life(ordinal);
  }
}

function factorFrom(slow: Parameters["slow"], uniform: number): number {
  let before = 0;
  for (const { share, factor } of slow) {
    before += share;
    if (uniform < before) return factor;
  }
  return 1;
}
