export interface FaultOrder<Fault, Request> {
  readonly fault: Fault;
  /** Requests that it takes; the rest pass. */
  readonly times: number;
  readonly when: (request: Request) => boolean;
}

export interface ActiveFault {
  /** Requests that it took so far. */
  readonly taken: number;
  remove(): void;
}

/** Faults on order: the first one that fits a request takes it. */
export class FaultOrders<Fault, Request> {
  readonly #active: { readonly order: FaultOrder<Fault, Request>; taken: number }[] = [];

  add(order: FaultOrder<Fault, Request>): ActiveFault {
    const active = { order, taken: 0 };
    this.#active.push(active);
    return {
      get taken() { return active.taken; },
      remove: () => {
        const at = this.#active.indexOf(active);
        if (at !== -1) this.#active.splice(at, 1);
      },
    };
  }

  take(request: Request): Fault | null {
    const active = this.#active.find(({ order, taken }) => taken < order.times && order.when(request));
    if (active === undefined) return null;
    active.taken += 1;
    return active.order.fault;
  }
}
