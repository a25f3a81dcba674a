import { open } from "node:fs/promises";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { inJournalOrder, linesAt } from "../../../orchestrator/results/s3/lines.ts";
import { putPartBytes } from "../../../orchestrator/results/s3/objects.ts";
import { Places } from "../../../orchestrator/results/s3/places.ts";
import { createRandom } from "../../support/random.ts";
import { temporaryFolder } from "../support.ts";

/** `SPLITRUN_SEED` replays a run. */
const seed = Number(process.env["SPLITRUN_SEED"] ?? Date.now() % 1_000_000);

describe("the places of lines", () => {
  test(`are kept for many more parts than are held, in a file that has no name (seed ${seed})`, async () => {
    const folder = await temporaryFolder();
    const partItems = 50_000;
    const places = new Places(join(folder, "places"), partItems);
    expect(readdirSync(folder)).toEqual([]);
    const random = createRandom(seed);
    const expected = new Map<number, { readonly offset: number; readonly bytes: number; readonly failed: boolean }>();
    for (let line = 0; line < 3000; line++) {
      const index = random.between(0, 40) * partItems + random.between(0, 20);
      const place = { offset: random.between(0, 2 ** 40), bytes: random.between(1, 2 ** 23), failed: random.between(0, 3) === 0 };
      expect(places.set(index, place)).toBe(!expected.has(index));
      expected.set(index, place);
    }
    for (let part = 0; part < 40; part++) {
      const own = [...expected].filter(([index]) => Math.floor(index / partItems) === part).sort(([a], [b]) => a - b).map(([, place]) => place);
      const { offsets, bytes, failed } = places.of(part);
      expect([[...offsets], [...bytes], failed]).toEqual([own.map(({ offset }) => offset), own.map((place) => place.bytes), own.filter((place) => place.failed).length]);
    }
    places.close();
  });
});

describe("lines of a journal", () => {
  test(`are put together in any order, long and short, near and far (seed ${seed})`, async () => {
    const random = createRandom(seed);
    const lines = Array.from({ length: 400 }, (_, n) => `${n}:${"x".repeat(random.between(0, 50) === 0 ? random.between(0, 1_000_000) : random.between(0, 60_000))}`);
    const file = join(await temporaryFolder(), "journal");
    const handle = await open(file, "w+");
    const at = lines.map(() => 0);
    let offset = 0;
    for (const [n, line] of lines.entries()) {
      at[n] = offset;
      offset += line.length + 1;
      await handle.appendFile(`${line}\n`);
    }
    const wanted = lines.map((_, n) => n).filter(() => random.between(0, 3) > 0).map((n) => ({ n, rank: random.next() })).sort((a, b) => a.rank - b.rank).map(({ n }) => n);
    const places = { offsets: Float64Array.from(wanted, (n) => at[n] ?? 0), bytes: Uint32Array.from(wanted, (n) => lines[n]?.length ?? 0) };
    const piecesOf = async (given: typeof places): Promise<readonly Buffer[]> => {
      const pieces: Buffer[] = [];
      for await (const piece of linesAt(handle, given)) pieces.push(piece);
      return pieces;
    };
    const pieces = await piecesOf(places);
    expect(Buffer.concat(pieces).toString() === wanted.map((n) => `${lines[n] ?? ""}\n`).join("")).toBe(true);
    expect(pieces.slice(0, -1).every(({ length }) => length >= putPartBytes)).toBe(true);
    const ordered = wanted.toSorted((a, b) => a - b).map((n) => `${lines[n] ?? ""}\n`).join("");
    expect(Buffer.concat(await piecesOf({ ...inJournalOrder(places) } as typeof places)).toString() === ordered).toBe(true);
    await handle.close();
  });
});
