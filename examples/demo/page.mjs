// The page on which a person judges the run: figures, every wrong answer, every error, and a sample of the rest.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import sharp from "sharp";

const style = readFileSync(new URL("page.css", import.meta.url), "utf8");
const styleHash = createHash("sha256").update(style).digest("base64");
const tilesAtOnce = 8;

/**
 * One file that needs nothing else: styles and thumbnails are in it, and its policy allows nothing but these.
 *
 * @param judged every item as `{ id, truth, fault, output?, error?, verdict }`; verdict: right, wrong or failed
 * @param options `summary` of the run, `jpegOf(item)` of what was served, `faultText(item)`, and how many right ones
 * to show as `sampleCount`
 */
export async function renderPage(judged, { summary, jpegOf, faultText, sampleCount }) {
  const of = (verdict) => judged.filter((item) => item.verdict === verdict);
  const [right, wrong, failed] = [of("right"), of("wrong"), of("failed")];
  const sample = evenly(right, sampleCount);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'sha256-${styleHash}'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>splitrun demo: ${count(judged.length)} links, ${count(right.length)} digits read right</title>
<style>${style}</style>
</head>
<body>
<main>
<h1>Handwritten digits, read by splitrun</h1>
<p>${count(judged.length)} links: real handwritten digits that the model has never seen, drawn as photographs, and among them
dead links and broken files. Each ended as exactly one result or one error. Judge the answers with your own eyes.</p>
${figures({ judged, right, wrong, failed, summary })}
<ul class="legend">
<li class="right"><i></i>read right</li><li class="wrong"><i></i>read wrong</li><li class="failed"><i></i>no picture to read: ended as an error</li>
</ul>

<h2>All ${count(wrong.length)} that were read wrong</h2>
<p>The large figure is the model's answer; below it, what was written and how much the model believed in that.</p>
<ul class="tiles">${(await tiles(wrong, jpegOf, answerTile)).join("")}</ul>

<h2>A sample of ${count(sample.length)} that were read right</h2>
<p>Every ${ordinal(Math.max(1, Math.floor(right.length / Math.max(1, sample.length))))} of ${count(right.length)}, in the order of the list.</p>
<ul class="tiles">${(await tiles(sample, jpegOf, answerTile)).join("")}</ul>

<h2>All ${count(failed.length)} that ended as an error</h2>
<p>What was put in the way, the error that it became, and how often it was tried. None of them held up its neighbours.</p>
<ul class="tiles errors">${failed.map((item) => errorTile(item, faultText(item))).join("")}</ul>

<h2>Where the time went</h2>
<p>Share of the time that each stage was at work.${summary.bottleneck === null ? "" : ` The bottleneck was ${escape(summary.bottleneck.stage)}. To go faster: ${escape(summary.bottleneck.knob.replaceAll("`", ""))}.`}</p>
${stageTable(summary.stages)}

<h2>What was taken for what</h2>
<p>Rows: what was written. Columns: what was read.</p>
${confusionTable([...right, ...wrong])}
</main>
</body>
</html>
`;
}

function figures({ judged, right, wrong, failed, summary }) {
  const read = right.length + wrong.length;
  const all = [
    ["", count(judged.length), "links"],
    ["right", count(right.length), "read right"],
    ["wrong", count(wrong.length), "read wrong"],
    ["", `${((100 * right.length) / Math.max(1, read)).toFixed(2)} %`, `accuracy over ${count(read)} digits`],
    ["failed", count(failed.length), "ended as an error"],
    ["", `${(summary.makespanMs / 1000).toFixed(1)} s`, `${count(Math.round(summary.itemsPerSecond))} a second`],
  ];
  return `<ul class="figures">${all.map(([kind, value, text]) => `<li class="${kind}"><b>${value}</b>${text}</li>`).join("")}</ul>`;
}

/** Tiles with a thumbnail each, a few at a time. */
async function tiles(items, jpegOf, tile) {
  const done = new Array(items.length);
  const waiting = items.entries();
  await Promise.all(Array.from({ length: tilesAtOnce }, async () => {
    for (const [at, item] of waiting) {
      const thumbnail = await sharp(await jpegOf(item)).resize(240, 180).jpeg({ quality: 68, mozjpeg: true }).toBuffer();
      done[at] = tile(item, thumbnail);
    }
  }));
  return done;
}

function answerTile({ id, truth, output, verdict }, thumbnail) {
  const { label, score, top } = output;
  const percent = (share) => (share > 0.999 ? "over 99.9 %" : `${(100 * share).toFixed(share > 0.99 ? 1 : 0)} %`);
  const truthScore = top.find((entry) => entry.label === truth)?.score ?? 0;
  const truthLine = verdict === "right" ? "" : `<div class="truth">written: <b>${escape(truth)}</b> (${percent(truthScore)})</div>`;
  return `
<li class="tile ${verdict}" data-id="${escape(id)}" data-truth="${escape(truth)}" data-label="${escape(label)}">
<img src="data:image/jpeg;base64,${thumbnail.toString("base64")}" alt="Photograph of a handwritten ${escape(truth)}" title="${escape(id)}">
<div class="read"><b>${escape(label)}</b><span>${percent(score)} sure</span></div>${truthLine}
</li>`;
}

function errorTile({ id, error, attempts }, fault) {
  return `
<li class="tile failed" data-id="${escape(id)}" data-code="${escape(error.code)}">
<div><code>${escape(error.code)}</code><span class="what">${escape(fault)}</span>
<span class="said">${escape(error.message)}</span><br>${attempts === 1 ? "tried once" : `tried ${attempts} times`}, <span class="id">${escape(id)}</span></div>
</li>`;
}

function stageTable(stages) {
  const rows = Object.entries(stages).map(([stage, { items, busyMs, busyShare, lanes }]) => `
<tr><th>${escape(stage)}</th><td><meter min="0" max="1" value="${busyShare.toFixed(3)}"></meter></td><td>${Math.round(100 * busyShare)} %</td>
<td>${(busyMs / Math.max(1, items)).toFixed(2)} ms</td><td>${lanes}</td></tr>`);
  return `<div class="wide"><table><thead><tr><th></th><th></th><th>at work</th><th>an item</th><th>lanes</th></tr></thead><tbody>${rows.join("")}</tbody></table></div>`;
}

function confusionTable(read) {
  const digits = Array.from({ length: 10 }, (_, digit) => String(digit));
  const times = new Map();
  for (const { truth, output } of read) times.set(`${truth} ${output.label}`, (times.get(`${truth} ${output.label}`) ?? 0) + 1);
  const cell = (truth, label) => {
    const value = times.get(`${truth} ${label}`) ?? 0;
    return `<td class="${value === 0 ? "none" : truth === label ? "right" : "wrong"}">${value === 0 ? "·" : count(value)}</td>`;
  };
  const rows = digits.map((truth) => `<tr><th>${truth}</th>${digits.map((label) => cell(truth, label)).join("")}</tr>`);
  const head = digits.map((label) => `<th>${label}</th>`).join("");
  return `<div class="wide"><table class="confusion"><thead><tr><th></th>${head}</tr></thead><tbody>${rows.join("")}</tbody></table></div>`;
}

function evenly(list, wanted) {
  const step = Math.max(1, Math.floor(list.length / Math.max(1, wanted)));
  return list.filter((_, at) => at % step === 0).slice(0, wanted);
}

function ordinal(number) {
  const endings = { 1: "st", 2: "nd", 3: "rd" };
  const ending = Math.floor((number % 100) / 10) === 1 ? "th" : (endings[number % 10] ?? "th");
  return `${number}${ending}`;
}

function count(value) {
  return value.toLocaleString("en-US");
}

function escape(text) {
  return String(text).replaceAll(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}
