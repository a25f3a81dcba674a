/**
 * A home driven at random beside a model that is too simple to be wrong: an array of lines, searched from its
 * beginning. Every result has a text of its own, so one that is lost or there twice is seen.
 */
import { readdir, readFile, rm, stat, truncate } from "node:fs/promises";
import { randomInt } from "node:crypto";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { SourceItem } from "../../orchestrator/inputs/types.ts";
import { openHome } from "../../orchestrator/results/home.ts";
import { outcomeLine } from "../../orchestrator/results/outcome-line.ts";
import type { Outcome } from "../../orchestrator/results/types.ts";
import { verify } from "../../orchestrator/results/verify.ts";
import { failure, fingerprintA, fingerprintB, homeOptions, indexesIn, outcomesOf, temporaryFolder } from "./support.ts";

const seed = Number(process.env["SPLITRUN_SEED"] ?? randomInt(2 ** 31));

/** One command of a user, and what befalls it. */
interface Step {
  readonly mode: "run" | "resume" | "retry";
  readonly task: "a" | "b";
  /** Of a `run`: another list, or what becomes of the last one. */
  readonly list: readonly string[] | "same" | "reversed" | { readonly inserted: string; readonly at: number } | { readonly removedAt: number };
  /** One an item, in turn: how it ends when it is done. */
  readonly ends: readonly ("result" | "error" | "not done")[];
  /** Share of the list that is read; 1: all. */
  readonly read: number;
  /** How it ends: as it should; killed; or killed with the last bytes of the journal lost (per cent of this run's bytes kept). */
  readonly fate: "finishes" | "killed" | { readonly keepsPercent: number };
}

const letter = fc.constantFrom("a", "b", "c", "d", "e", "f");

const step: fc.Arbitrary<Step> = fc.record({
  mode: fc.constantFrom("run", "run", "resume", "retry"),
  task: fc.constantFrom("a", "a", "a", "a", "b"),
  list: fc.oneof(
    fc.array(letter, { maxLength: 9 }),
    fc.constantFrom("same" as const, "reversed" as const),
    fc.record({ inserted: letter, at: fc.nat(9) }),
    fc.record({ removedAt: fc.nat(9) }),
  ),
  ends: fc.array(fc.constantFrom("result", "result", "result", "error", "not done"), { minLength: 1, maxLength: 4 }),
  read: fc.constantFrom(1, 1, 1, 0.5, 0),
  fate: fc.oneof(fc.constantFrom("finishes" as const, "finishes" as const, "killed" as const), fc.record({ keepsPercent: fc.nat(100) })),
});

function changed(last: readonly string[], change: Step["list"]): readonly string[] {
  if (change === "same") return last;
  if (change === "reversed") return last.toReversed();
  if ("inserted" in change) return last.toSpliced(change.at, 0, change.inserted);
  return "removedAt" in change ? last.toSpliced(change.removedAt, 1) : change;
}

interface Line {
  readonly key: string;
  /** null: an error. */
  readonly text: string | null;
  readonly index: number;
  /** Written for an older list. */
  readonly older: boolean;
}

interface Journal {
  readonly lines: readonly Line[];
}

class Model {
  task: "a" | "b" | null = null;
  list: readonly string[] = [];
  /** Items of the list that were read at some time: until then, nobody knows what older lines are theirs. */
  readMax = 0;
  journals: Record<"a" | "b", Journal> = { a: { lines: [] }, b: { lines: [] } };

  get lines(): readonly Line[] {
    return this.task === null ? [] : this.journals[this.task].lines;
  }

  set lines(lines: readonly Line[]) {
    if (this.task !== null) this.journals[this.task] = { lines };
  }

  /** A `run`: all there is was written for an older list. */
  startList(task: "a" | "b", list: readonly string[]): void {
    this.task = task;
    this.list = list;
    this.readMax = 0;
    this.lines = this.lines.map((line) => ({ ...line, older: true }));
  }

  /** The line that speaks for each of the first items of the list. */
  owners(items: number): readonly (Line | undefined)[] {
    const taken = new Set<Line>();
    return this.list.slice(0, items).map((key, index) => {
      const current = this.lines.findLast((line) => !line.older && line.index === index);
      if (current !== undefined) return current;
      const older = this.lines.find((line) => line.older && line.text !== null && line.key === key && !taken.has(line));
      if (older !== undefined) taken.add(older);
      return older;
    });
  }

  /** The run has read all of the list and every item has ended. */
  finish(): void {
    const owners = this.owners(this.list.length);
    this.lines = this.lines
      .filter((line) => owners.includes(line))
      .map((line) => ({ ...line, index: owners.indexOf(line), older: false }));
  }
}

const fingerprints = { a: fingerprintA, b: fingerprintB } as const;

async function play(dir: string, steps: readonly Step[]): Promise<void> {
  const model = new Model();
  const stored = new Set<string>();
  let made = 0;
  for (const { mode, task, list, ends, read, fate } of steps) {
    if (mode !== "run" && model.task === null) continue;
    if (mode === "run") model.startList(task, changed(model.list, list));
    const home = await openHome(homeOptions(dir, { mode: mode === "run" ? "run" : "resume", retryFailed: mode === "retry", fingerprint: fingerprints[model.task ?? "a"] }));
    const reads = Math.floor(model.list.length * read);
    const items: readonly SourceItem[] = model.list.slice(0, reads).map((input) => ({ input }));
    const matched = home.match(0, items);

    const owners = model.owners(reads);
    const done = owners.map((line) => line !== undefined && (line.text !== null || mode === "resume"));
    expect([...indexesIn(matched)]).toEqual(done.flatMap((is, index) => (is ? [index] : [])));
    expect(matched.failedDone).toBe(owners.filter((line) => line !== undefined && line.text === null && mode === "resume").length);
    if (read === 1) home.inputEnded();

    const outcomes: Outcome[] = [];
    model.list.slice(0, reads).forEach((input, index) => {
      const end = ends[index % ends.length];
      if (done[index] || end === "not done") return;
      outcomes.push({ index, input, ...(end === "error" ? failure : { output: `text-${made++}` }), attempts: 1 });
    });
    const journal = join(dir, "results.jsonl");
    const bytesBefore = (await stat(journal)).size;
    home.append(0, outcomes);
    const isComplete = read === 1 && outcomes.length === done.filter((is) => !is).length;
    if (fate === "finishes") await home.finish({ complete: isComplete });
    await home.close();

    const kept = typeof fate === "object" ? await tear(journal, bytesBefore, { outcomes, keeps: fate.keepsPercent / 100 }) : outcomes;
    model.lines = [...model.lines, ...kept.map(({ index, input, output }) => ({ key: String(input), text: typeof output === "string" ? output : null, index, older: false }))];
    for (const { output } of kept) if (typeof output === "string") stored.add(output);
    model.readMax = Math.max(model.readMax, reads);
    const shown = model.owners(model.list.length).map((line, index) => (line?.older === true && index >= model.readMax ? undefined : line));
    expect((await outcomesOf(dir)).map(({ index, input, output, error }) => [index, input, output ?? error])).toEqual(
      shown.flatMap((line, index) => (line === undefined ? [] : [[index, line.key, line.text ?? failure.error]])),
    );
    if (fate === "finishes" && isComplete) {
      model.finish();
      expect(await verify(dir)).toMatchObject({ ok: true, items: model.list.length, missing: 0 });
      expect((await readFile(journal, "utf8")).split("\n")).toHaveLength(model.list.length + 1);
    }
    if (fate === "finishes") {
      expect((await readFile(join(dir, "failed.jsonl"), "utf8")).split("\n")).toHaveLength(shown.filter((line) => line?.text === null).length + 1);
    }
    expect((await textsOnDisk(dir)).toSorted()).toEqual([...stored].toSorted());
  }
}

/** Loses the last bytes that a run wrote. Returns the outcomes whose lines are whole, their ends apart. */
async function tear(journal: string, bytesBefore: number, { outcomes, keeps }: { readonly outcomes: readonly Outcome[]; readonly keeps: number }): Promise<readonly Outcome[]> {
  const bytes = outcomes.reduce((sum, outcome) => sum + outcomeLine(outcome).length, 0);
  const left = Math.round(bytes * keeps);
  await truncate(journal, bytesBefore + left);
  let end = 0;
  return outcomes.filter((outcome) => {
    end += outcomeLine(outcome).length;
    return end - 1 <= left;
  });
}

/** Of all results in the home, wherever they went. */
async function textsOnDisk(dir: string): Promise<readonly string[]> {
  const names = (await readdir(dir)).filter((name) => /^(?:results.*|stale)\.jsonl$/.test(name));
  const texts = await Promise.all(names.map((name) => readFile(join(dir, name), "utf8")));
  return texts.flatMap((text) => [...text.matchAll(/"output":"(text-\d+)","attempts":1\}/g)].map((match) => match[1] ?? ""));
}

test("whatever is run, killed and torn in whatever order, no result is lost, done again or there twice", async () => {
  console.log(`homes at random: SPLITRUN_SEED=${seed}`);
  const folder = await temporaryFolder();
  let homes = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 8 }), async (steps) => {
      const dir = join(folder, String(homes++));
      await play(dir, steps);
      await rm(dir, { recursive: true, force: true });
    }),
    { seed, numRuns: Number(process.env["SPLITRUN_MODEL_RUNS"] ?? 100) },
  );
});
