import { GroupQueue, weightOf, type Group, type History } from "./groups.ts";
import { HeavyFirst } from "./heavy-first.ts";
import type { Hosts } from "./hosts.ts";
import type { Quarantine } from "./quarantine.ts";
import type { Budget } from "./sizing.ts";

/** Every item that was read and is neither running nor ended. */
export class Waiting {
  readonly #hosts: Hosts;
  readonly #quarantine: Quarantine;
  readonly #again = new GroupQueue();
  readonly #fresh = new GroupQueue();
  readonly #heavy = new HeavyFirst();
  #backingOff = 0;

  constructor(hosts: Hosts, quarantine: Quarantine) {
    this.#hosts = hosts;
    this.#quarantine = quarantine;
  }

  /** Items that can be handed out to any Task Manager. */
  get ready(): number {
    return this.#again.count + this.#fresh.count + this.#heavy.count;
  }

  get readyWeight(): number {
    return this.#again.weight + this.#fresh.weight + this.#heavy.weight;
  }

  /** Items that wait for a time to pass. */
  get setAside(): number {
    return this.#backingOff + this.#hosts.waiting;
  }

  /** Items kept back so that the heavy ones can go first. */
  get inWindow(): number {
    return this.#heavy.count;
  }

  get all(): number {
    return this.ready + this.setAside + this.#quarantine.waitingItems;
  }

  /** The past of those that would be taken first; null: they have none. */
  get front(): History | null {
    return this.#again.front;
  }

  /** Are there items that were never handed out? */
  get anyFresh(): boolean {
    return this.#fresh.count + this.#heavy.count > 0;
  }

  addRead(group: Group): void {
    const others = this.#quarantine.sift(group);
    if (others === null) return;
    if (others.weights === null) this.#fresh.push(others);
    else this.#heavy.push(others);
  }

  /** They can be handed out again. */
  release(group: Group): void {
    const others = this.#quarantine.keep(group);
    if (others !== null) this.#again.push(others);
  }

  /** What of a group that is to move on at once may do so; the rest waits. */
  admit(group: Group, nowMs: number): Group | null {
    const others = this.#quarantine.keep(group);
    return others === null ? null : this.#hosts.admit(others, nowMs);
  }

  backOff(group: Group): void {
    this.#backingOff += group.count;
  }

  backOffOver(group: Group): void {
    this.#backingOff -= group.count;
    this.release(group);
  }

  /** For a Task Manager that can have anything. `again`: those with a past too. */
  take(budget: Budget, again: boolean, nowMs: number): readonly Group[] {
    const groups: Group[] = [];
    let { items, weight } = budget;
    while (items > 0 && weight > 0) {
      const next = (again ? this.#again.take(items, weight) : null) ?? this.#heavy.take(items, weight) ?? this.#fresh.take(items, weight);
      if (next === null) break;
      const group = this.#hosts.admit(next, nowMs);
      if (group === null) continue;
      groups.push(group);
      items -= group.count;
      weight -= weightOf(group);
    }
    return groups;
  }

  /** For a Task Manager that gets nothing else. */
  takeApart(large: boolean, nowMs: number): Group | null {
    for (let group = this.#quarantine.take(large); group !== null; group = this.#quarantine.take(large)) {
      const admitted = this.#hosts.admit(group, nowMs);
      if (admitted !== null) return admitted;
    }
    return null;
  }
}
