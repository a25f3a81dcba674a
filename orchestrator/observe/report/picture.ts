/** What a picture of assignments over time is made of. Seconds from the start. */
export interface GanttPicture {
  /** Of each row its machines, one after the other. */
  readonly rows: readonly (readonly GanttMachine[])[];
  readonly bars: readonly GanttBar[];
}

export interface GanttMachine {
  readonly name: string;
  /** Asked for, ready, gone. */
  readonly fromS: number;
  readonly readyS: number;
  readonly endS: number;
  readonly cold: boolean;
  /** Its end was no one's wish. */
  readonly lost: boolean;
  /** And nobody was told of it. */
  readonly silent: boolean;
  /** How many times slower than others; 1: not known to be. */
  readonly factor: number;
  readonly pauses: readonly (readonly [fromS: number, toS: number])[];
}

export interface GanttBar {
  readonly row: number;
  readonly fromS: number;
  readonly toS: number;
  readonly items: number;
  /** The first one's number, where several are drawn as one. */
  readonly assignment: number;
  /** Assignments that it stands for. */
  readonly count: number;
  /** Some of its items were held elsewhere when it was given. */
  readonly copy: boolean;
  /** Its machine was lost with it. */
  readonly lost: boolean;
  /** Of several jobs, which. */
  readonly job: number;
}

/** At most so many rows and bars are drawn. */
export const rowsMax = 250;
export const barsMax = 12_000;

interface Row {
  readonly number: number;
  readonly machines: GanttMachine[];
  bars: GanttBar[];
}

/** Keeps a picture of any run within bounds: of too many rows every second goes, of too many bars neighbours are joined. */
export class PictureKeeper {
  #rows = new Map<number, Row>();
  #bars = 0;
  /** Every how many-th row is kept. */
  #stride = 1;
  /** Neighbours are joined that last no longer together. */
  #joinedS = 0;
  #rowsSeen = 0;

  get stride(): number {
    return this.#stride;
  }

  get rowsSeen(): number {
    return this.#rowsSeen;
  }

  get joinedS(): number {
    return this.#joinedS;
  }

  machine(number: number, machine: GanttMachine): void {
    this.#row(number)?.machines.push(machine);
  }

  bar(bar: GanttBar): void {
    const row = this.#row(bar.row);
    if (row === undefined) return;
    const last = row.bars.at(-1);
    if (last !== undefined && this.#canJoin(last, bar)) row.bars[row.bars.length - 1] = joined(last, bar);
    else {
      row.bars.push(bar);
      this.#bars += 1;
    }
    while (this.#bars > barsMax) this.#joinMore();
  }

  picture(): GanttPicture {
    const rows = [...this.#rows.values()].sort((a, b) => a.number - b.number);
    return { rows: rows.map(({ machines }) => machines), bars: rows.flatMap(({ bars }, row) => bars.map((bar) => ({ ...bar, row }))) };
  }

  #row(number: number): Row | undefined {
    this.#rowsSeen = Math.max(this.#rowsSeen, number + 1);
    if (number % this.#stride !== 0) return undefined;
    let row = this.#rows.get(number);
    if (row === undefined) {
      this.#rows.set(number, (row = { number, machines: [], bars: [] }));
      while (this.#rows.size > rowsMax) this.#thinOut();
    }
    return number % this.#stride === 0 ? row : undefined;
  }

  #thinOut(): void {
    this.#stride *= 2;
    for (const [number, { bars }] of this.#rows) {
      if (number % this.#stride === 0) continue;
      this.#bars -= bars.length;
      this.#rows.delete(number);
    }
  }

  #joinMore(): void {
    this.#joinedS = this.#joinedS === 0 ? 0.01 : this.#joinedS * 2;
    this.#bars = 0;
    for (const row of this.#rows.values()) {
      const kept: GanttBar[] = [];
      for (const bar of row.bars) {
        const last = kept.at(-1);
        if (last !== undefined && this.#canJoin(last, bar)) kept[kept.length - 1] = joined(last, bar);
        else kept.push(bar);
      }
      row.bars = kept;
      this.#bars += kept.length;
    }
  }

  #canJoin(one: GanttBar, next: GanttBar): boolean {
    return next.toS - one.fromS <= this.#joinedS && one.copy === next.copy && one.lost === next.lost;
  }
}

function joined(one: GanttBar, next: GanttBar): GanttBar {
  return { ...one, toS: Math.max(one.toS, next.toS), items: one.items + next.items, count: one.count + next.count };
}
