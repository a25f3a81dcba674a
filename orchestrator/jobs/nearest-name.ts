/** Fewer letters begin or end too much. */
const partLengthMin = 3;

/**
 * The candidate that a person most likely meant by `name`, or null: case and `_`/`-` do not count, a swap is one edit;
 * else the only one that begins or ends with it, as `itemMs` does with `item`.
 */
export function nearestName(name: string, candidates: readonly string[]): string | null {
  const wanted = plain(name);
  let best: string | null = null;
  let bestEdits = Infinity;
  for (const candidate of candidates) {
    const edits = editDistance(wanted, plain(candidate));
    if (edits < bestEdits) {
      best = candidate;
      bestEdits = edits;
    }
  }
  return bestEdits <= Math.max(1, Math.floor(wanted.length / 3)) ? best : onlyPart(wanted, candidates);
}

function onlyPart(wanted: string, candidates: readonly string[]): string | null {
  if (wanted.length < partLengthMin) return null;
  const [only = null, ...others] = candidates.filter((candidate) => plain(candidate).startsWith(wanted) || plain(candidate).endsWith(wanted));
  return others.length === 0 ? only : null;
}

export function plain(name: string): string {
  return name.toLowerCase().replace(/[_-]/g, "");
}

/** Optimal string alignment: insertions, deletions, replacements and swaps of neighbours. */
export function editDistance(left: string, right: string): number {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: right.length + 1 }, (_, column) => column);
  for (let row = 1; row <= left.length; row++) {
    const current = [row];
    for (let column = 1; column <= right.length; column++) {
      const replaced = at(previous, column - 1) + (left[row - 1] === right[column - 1] ? 0 : 1);
      let edits = Math.min(at(previous, column) + 1, at(current, column - 1) + 1, replaced);
      if (row > 1 && column > 1 && left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1]) {
        edits = Math.min(edits, at(beforePrevious, column - 2) + 1);
      }
      current.push(edits);
    }
    beforePrevious = previous;
    previous = current;
  }
  return at(previous, right.length);
}

function at(row: readonly number[], column: number): number {
  return row[column] ?? Infinity;
}
