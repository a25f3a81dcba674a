import { mixed, normalFrom, streamSeed } from "./chance.ts";
import type { ItemModel } from "./workload.ts";

const itemSalt = 0x17e35;
const step = 0x9e3779b9;

/**
 * The items of a job, made again from seed and index whenever they are looked at, so that 10^7 of them take no
 * memory: after `look(index)` the fields speak of that item. Seconds.
 */
export class Items {
  readonly count: number;
  readonly #model: ItemModel;
  readonly #seed: number;
  readonly #logMean: number;
  /** Of the machine's own work, at speed factor 1. */
  serviceS = 0;
  /** On top, on the wall clock. */
  wallS = 0;
  /** Hangs for `wallS` instead of all else, then ends as an error. */
  poison = false;

  constructor(model: ItemModel, seed: number) {
    this.count = model.items;
    this.#model = model;
    this.#seed = streamSeed(seed, 0, itemSalt);
    this.#logMean = Math.log(model.meanS) - model.sigma ** 2 / 2;
  }

  look(index: number): void {
    const { sigma, meanS, tail, poison, itemTimeoutS } = this.#model;
    const state = mixed(this.#seed + Math.imul(index, 0x85ebca6b)) ^ Math.floor(index / 2 ** 32);
    this.poison = poison > 0 && uniform(state + 5 * step) < poison;
    if (this.poison) {
      this.serviceS = 0;
      this.wallS = itemTimeoutS;
      return;
    }
    this.serviceS = sigma === 0 ? meanS : Math.exp(this.#logMean + sigma * normalFrom(uniform(state + step), uniform(state + 2 * step)));
    this.wallS = 0;
    if (tail.share > 0 && uniform(state + 3 * step) < tail.share) {
      this.wallS = Math.min(tail.cap, tail.scale * (1 - uniform(state + 4 * step)) ** (-1 / tail.alpha));
    }
  }
}

function uniform(bits: number): number {
  return mixed(bits) / 2 ** 32;
}
