type Happening = () => void;

/** What happens when, in virtual seconds: a binary heap; of things at the same time the one that was added first. */
export class Calendar {
  #times = new Float64Array(1024);
  #orders = new Float64Array(1024);
  readonly #happenings: Happening[] = [];
  #size = 0;
  #added = 0;
  nowS = 0;

  get isEmpty(): boolean {
    return this.#size === 0;
  }

  at(timeS: number, happening: Happening): void {
    if (timeS === Infinity) return;
    if (this.#size === this.#times.length) this.#grow();
    const order = this.#added++;
    const time = Math.max(timeS, this.nowS);
    let place = this.#size++;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if ((this.#times[parent] ?? 0) <= time) break;
      this.#move(parent, place);
      place = parent;
    }
    this.#put(place, time, order, happening);
  }

  /** Passes to the next thing and lets it happen; false: there is none. */
  next(): boolean {
    const happening = this.#happenings[0];
    if (this.#size === 0 || happening === undefined) return false;
    this.nowS = this.#times[0] ?? 0;
    this.#removeFirst();
    happening();
    return true;
  }

  #removeFirst(): void {
    const last = --this.#size;
    const time = this.#times[last] ?? 0;
    const order = this.#orders[last] ?? 0;
    const happening = this.#happenings.pop();
    if (last === 0 || happening === undefined) return;
    let place = 0;
    for (;;) {
      let child = 2 * place + 1;
      if (child >= last) break;
      if (child + 1 < last && this.#isBefore(child + 1, child)) child += 1;
      const childTime = this.#times[child] ?? 0;
      if (time < childTime || (time === childTime && order < (this.#orders[child] ?? 0))) break;
      this.#move(child, place);
      place = child;
    }
    this.#put(place, time, order, happening);
  }

  #isBefore(left: number, right: number): boolean {
    const leftTime = this.#times[left] ?? 0;
    const rightTime = this.#times[right] ?? 0;
    return leftTime < rightTime || (leftTime === rightTime && (this.#orders[left] ?? 0) < (this.#orders[right] ?? 0));
  }

  #put(place: number, time: number, order: number, happening: Happening): void {
    this.#times[place] = time;
    this.#orders[place] = order;
    this.#happenings[place] = happening;
  }

  #move(from: number, to: number): void {
    this.#times[to] = this.#times[from] ?? 0;
    this.#orders[to] = this.#orders[from] ?? 0;
    const happening = this.#happenings[from];
    if (happening !== undefined) this.#happenings[to] = happening;
  }

  #grow(): void {
    const times = new Float64Array(this.#times.length * 2);
    const orders = new Float64Array(this.#times.length * 2);
    times.set(this.#times);
    orders.set(this.#orders);
    this.#times = times;
    this.#orders = orders;
  }
}
