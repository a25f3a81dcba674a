// Runs all classes with all rules and writes the tables into README.md beside this file. Takes half an hour on two cores.
//   npm run build && node bench/simulation/tables.mjs [--seeds n (at most)] [--processes n] [--only table] [--class name]...
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { parseArgs, promisify } from "node:util";

const folder = import.meta.dirname;
// A copy, so that a build meanwhile changes nothing; inside node_modules, so that it finds its packages.
const cache = path.resolve(folder, "../../node_modules/.cache/splitrun");
await mkdir(cache, { recursive: true });
const copyFolder = await mkdtemp(path.join(cache, "tables-"));
const cli = path.join(copyFolder, "cli.js");
await cp(path.resolve(folder, "../../dist"), copyFolder, { recursive: true });
await writeFile(path.join(copyFolder, "package.json"), '{ "type": "module" }');
const readme = path.join(folder, "README.md");
const rules = ["splitrun", "original", "original-speculation", "late", "spark", "z"];
const tables = [
  { name: "way-back", title: "With a way back to the holder", flags: [], cost: false },
  { name: "no-way-back", title: "Without a way back: `--supports none`", flags: ["--supports", "none"], cost: true },
  { name: "lanes", title: "With 32 lanes: `--lanes 32`", flags: ["--lanes", "32"], cost: false },
];
// From the project's facts about scheduling: median / 95th percentile, and the most work done twice in per cent.
const goals = {
  "way-back": { steady: "1.06 / 1.07, 2 %", "cold-short": "1.31 / 1.60, 10 %", "heavy-tail": "1.15 / 1.30, 2 %", "slow-workers": "1.03 / 1.05, 2 %", "stalls-and-deaths": "1.02 / 1.03, 2 %", "million-mixed": "1.48 / 1.50, 2 %" },
  "no-way-back": { steady: "1.18 / 1.20, 0.1 %", "cold-short": "1.40 / 1.80, 8 %", "heavy-tail": "1.17 / 1.32, 1 %", "slow-workers": "1.10 / 1.12, 1 %", "stalls-and-deaths": "1.05 / 1.07, 1 %", "million-mixed": "1.50 / 1.55, 3 %" },
  lanes: {},
};

const { values } = parseArgs({
  options: { seeds: { type: "string" }, processes: { type: "string", default: "2" }, only: { type: "string" }, class: { type: "string", multiple: true } },
});
const chosenTables = tables.filter(({ name }) => values.only === undefined || values.only === name);
if (chosenTables.length === 0) throw new Error(`--only ${values.only}: there are ${tables.map(({ name }) => name).join(", ")}`);

const classes = (await Promise.all(["workloads.json", "more-workloads.json"].map(classesOf))).flat();
const wanted = classes.filter(({ name }) => values.class === undefined || values.class.includes(name));
const startedMs = Date.now();
const results = await allOf(chosenTables.flatMap((table) => wanted.map((each) => ({ table, ...each })))).finally(() => rm(copyFolder, { recursive: true }));
const text = await readFile(readme, "utf8");
await writeFile(readme, chosenTables.reduce((page, table) => withTable(page, table, tableOf(table)), text));
console.error(`${Math.round((Date.now() - startedMs) / 1000)} s`);

async function classesOf(file) {
  const workload = JSON.parse(await readFile(path.join(folder, file), "utf8"));
  return workload.classes.map(({ name, seeds }) => ({ file, name, seeds: Math.min(seeds, Number(values.seeds ?? seeds)) }));
}

/** The longest first, a few processes at a time. */
async function allOf(runs) {
  const queue = [...runs].sort((a, b) => Number(b.name === "million-mixed") - Number(a.name === "million-mixed"));
  const done = new Map();
  const work = async () => {
    for (let run = queue.shift(); run !== undefined; run = queue.shift()) {
      const args = ["simulate", path.join(folder, run.file), "--class", run.name, "--compare", "--json", "--seeds", String(run.seeds), ...run.table.flags];
      const { stdout } = await promisify(execFile)(process.execPath, [cli, ...args], { maxBuffer: 1e8 });
      done.set(`${run.table.name} ${run.name}`, JSON.parse(stdout).classes);
      console.error(`${run.table.name} ${run.name}: ${JSON.parse(stdout).classes.map((figures) => `${figures.rule} ${ratio(figures)}`).join(", ")}`);
    }
  };
  await Promise.all(Array.from({ length: Number(values.processes) }, work));
  return done;
}

function tableOf({ name, cost }) {
  const head = ["class", "seeds", "bound s", ...rules, "splitrun: twice %, median / p95", "goal, twice at most", ...(cost ? ["splitrun: $ / original: $"] : [])];
  const lines = wanted.map((each) => {
    const figures = results.get(`${name} ${each.name}`);
    const [own] = figures;
    const [, original] = figures;
    return [
      each.name,
      own.seeds,
      own.boundS.toFixed(2),
      ...rules.map((rule) => bold(rule, ratio(figures.find((row) => row.rule === rule)))),
      `${own.wastePercent.toFixed(2)} / ${own.wasteP95Percent.toFixed(2)}`,
      goals[name][each.name] ?? "",
      ...(cost ? [`${own.costUsd.toFixed(4)} / ${original.costUsd.toFixed(4)}`] : []),
    ];
  });
  return [row(head), row(head.map(() => "---")), ...lines.map(row)].join("\n");
}

function bold(rule, text) {
  return rule === "splitrun" ? `**${text}**` : text;
}

function ratio({ ratioMedian, ratioP95 }) {
  return `${shown(ratioMedian)} / ${shown(ratioP95)}`;
}

function shown(value) {
  return value === null ? "DNF" : value.toFixed(value < 1.995 ? 3 : 2);
}

function row(cells) {
  return `| ${cells.join(" | ")} |`;
}

function withTable(page, { name, title }, table) {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const from = page.indexOf(begin);
  const to = page.indexOf(end);
  if (from < 0 || to < 0) throw new Error(`README.md has no place ${begin} … ${end}`);
  return `${page.slice(0, from + begin.length)}\n### ${title}\n\n${table}\n${page.slice(to)}`;
}
