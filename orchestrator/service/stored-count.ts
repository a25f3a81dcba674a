/** How many outcomes a run has stored, for those who wait for more. */
export interface StoredCount {
  add(outcomes: number): void;
  end(): void;
  /** How many there are, once there are more than that, or nothing comes any more. */
  moreThan(outcomes: number): Promise<number>;
}

export function createStoredCount(): StoredCount {
  let stored = 0;
  let ended = false;
  let waiting: (() => void)[] = [];
  const tell = () => {
    for (const look of waiting.splice(0)) look();
  };
  return {
    add(outcomes) {
      stored += outcomes;
      tell();
    },
    end() {
      ended = true;
      tell();
    },
    async moreThan(outcomes) {
      while (stored <= outcomes && !ended) await new Promise<void>((resolve) => waiting.push(resolve));
      return stored;
    },
  };
}
