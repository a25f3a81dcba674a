import { html, type Html } from "./html.ts";
import type { GanttBar, GanttMachine, GanttPicture } from "./picture.ts";

export interface Gantt {
  readonly picture: GanttPicture;
  /** What a row is called: "machine". */
  readonly rowWord: string;
  /** Machines come and go: the time that each is there is shown. */
  readonly presence: boolean;
  /** Where the time axis ends at least. */
  readonly endS: number;
  /** Lines over all rows; `tone`: a colour of the style. */
  readonly marks: readonly { readonly name: string; readonly atS: number; readonly tone: "bound" | "ink" | "faint" }[];
  /** Where `Tail` looks. */
  readonly tailFromS: number;
  /** Told where there are several. */
  readonly jobs: number;
  /** Drawn above the rows, on the same time axis; null: nothing is. */
  readonly rates: {
    readonly binS: number;
    readonly results: readonly number[];
    readonly errors: readonly number[];
    readonly working: readonly number[];
    readonly workingMax: number;
  } | null;
}

export interface LegendEntry {
  readonly tone: "work" | "copy" | "lost" | "cold" | "idle" | "pause" | "death";
  readonly text: string;
}

/** What the script draws from. */
export function ganttData({ picture, rowWord, presence, endS, marks, tailFromS, jobs, rates }: Gantt): unknown {
  return {
    rowWord,
    presence,
    end: round(endS),
    marks: marks.map(({ name, atS, tone }) => [name, round(atS), tone]),
    tail: round(tailFromS),
    jobs,
    slots: picture.rows.map((machines) => machines.map(machineData)),
    // row, from, to, items, assignment, copy, job, lost, assignments
    bars: picture.bars.map((bar: GanttBar) => [bar.row, round(bar.fromS), round(bar.toS), bar.items, bar.assignment, bar.copy ? 1 : 0, bar.job, bar.lost ? 1 : 0, bar.count]),
    rates: rates === null ? null : { ...rates, working: rates.working.map((value) => Math.round(value * 100) / 100) },
  };
}

function machineData({ name, fromS, readyS, endS, cold, lost, silent, factor, pauses }: GanttMachine): unknown {
  return { name, from: round(fromS), ready: round(readyS), end: round(endS), cold, lost, silent, factor, pauses: pauses.map(([from, to]) => [round(from), round(to)]) };
}

export interface GanttBody {
  readonly legend: readonly LegendEntry[];
  /** By which rows can be ordered. */
  readonly orders: readonly GanttOrder[];
  readonly label: string;
  /** null: rates are not drawn. */
  readonly ratesLabel: string | null;
}

export type GanttOrder = "number" | "last" | "slow";
const orderText: Readonly<Record<GanttOrder, string>> = { number: "by number", last: "last to end first", slow: "slowest first" };

export function ganttBody({ legend, orders, label, ratesLabel }: GanttBody): Html {
  return html`<div class="bar">
<ul class="legend">${legend.map(({ tone, text }) => html`<li><i class="${tone}"></i>${text}</li>`)}</ul>
<div class="controls"><label>Order <select id="order">${orders.map((order) => html`<option value="${order}">${orderText[order]}</option>`)}</select></label>
<button id="tail" type="button">Tail</button><button id="whole" type="button">Whole run</button></div>
</div>
<div class="gantt">${ratesLabel === null ? null : html`<canvas id="rates" role="img" aria-label="${ratesLabel}"></canvas>`}
<canvas id="axis" aria-hidden="true"></canvas><canvas id="chart" role="img" aria-label="${label}"></canvas></div>
<p id="tip" role="status" hidden></p>`;
}

function round(seconds: number): number {
  return Math.round(seconds * 1e4) / 1e4;
}


export const ganttStyle = `
:root{color-scheme:light dark;--page:#fbfbfa;--card:#fff;--ink:#1d1f22;--faint:#646a71;--line:#e3e4e2;--row:#f3f4f2;--work-a:#3d7fc4;--work-b:#79abdf;--copy:#e8862e;--cold:#cfd6dd;--pause:#8d949c;--death:#c8323c;--lost:#e6a3a7;--idle:#e3ead6;--bound:#22863a}
@media (prefers-color-scheme:dark){:root{--page:#15171a;--card:#1b1e22;--ink:#e6e8ea;--faint:#9aa1a8;--line:#2e3238;--row:#20242a;--work-a:#4a8fd6;--work-b:#2f6198;--copy:#f29b4b;--cold:#3a4149;--pause:#6d747c;--death:#f0616a;--lost:#7c3a40;--idle:#36432c;--bound:#58b96c}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:14px/1.45 system-ui,sans-serif}
.bar{display:flex;flex-wrap:wrap;gap:8px 24px;align-items:center;justify-content:space-between}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:0;padding:0;list-style:none;color:var(--faint);font-size:13px}
.legend i{display:inline-block;width:14px;height:10px;margin-right:6px;border-radius:2px}
.work{background:var(--work-a)}.copy{background:var(--copy)}.lost{background:var(--lost)}.cold{background:var(--cold)}.idle{background:var(--idle)}.pause{background:var(--pause)}.death{background:var(--death)}
.legend i.death{width:4px}
.controls{display:flex;flex-wrap:wrap;gap:8px;align-items:center;font-size:13px;color:var(--faint)}
select,button{font:inherit;color:var(--ink);background:var(--page);border:1px solid var(--line);border-radius:5px;padding:3px 9px}
button:hover{border-color:var(--faint)}
.gantt{position:relative;margin-top:10px}
canvas{display:block;width:100%}
#axis{position:sticky;top:0;background:var(--card)}
#chart{cursor:crosshair}
#tip{position:fixed;margin:0;padding:6px 10px;max-width:min(340px,90vw);pointer-events:none;background:var(--ink);color:var(--page);border-radius:5px;font-size:12px;white-space:pre-line}
#tip[hidden]{display:none}
`;

export const ganttScript = `
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const chart = document.getElementById("chart"), axis = document.getElementById("axis"), tip = document.getElementById("tip");
const order = document.getElementById("order");
const rates = document.getElementById("rates");
const left = 58, right = data.marks.length > 0 ? 36 : 12, axisHeight = 34, ratesHeight = 150;
const end = Math.max(data.end, 0.001) * 1.01;
let span = [0, end], rows = [], rowHeight = 8, drag = null;
const bySlot = data.slots.map(() => []);
for (const bar of data.bars) bySlot[bar[0]].push(bar);
for (const bars of bySlot) bars.sort((a, b) => a[1] - b[1]);
const lastOf = (slot) => bySlot[slot].reduce((last, bar) => Math.max(last, bar[2]), 0);
const factorOf = (slot) => data.slots[slot].reduce((most, machine) => Math.max(most, machine.factor), 0);
function arrange() {
  rows = data.slots.map((_, slot) => slot);
  if (order.value === "last") { const last = rows.map(lastOf); rows.sort((a, b) => last[b] - last[a]); }
  if (order.value === "slow") { const factor = rows.map(factorOf); rows.sort((a, b) => factor[b] - factor[a] || a - b); }
}
function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim(); }
function sized(canvas, height) {
  const width = canvas.clientWidth, ratio = Math.min(window.devicePixelRatio || 1, 30000 / Math.max(1, height));
  canvas.style.height = height + "px";
  canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}
function place(seconds) { return left + (seconds - span[0]) / (span[1] - span[0]) * (chart.clientWidth - left - right); }
function time(x) { return span[0] + (x - left) / (chart.clientWidth - left - right) * (span[1] - span[0]); }
function step() {
  const rough = (span[1] - span[0]) / Math.max(3, chart.clientWidth / 110), power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
}
function ticks(visit) { const each = step(); for (let at = Math.ceil(span[0] / each) * each; at <= span[1]; at += each) visit(at, each); }
function clock(at, each) {
  if (span[1] < 300 || each < 1) return at.toFixed(Math.max(0, -Math.floor(Math.log10(each) + 1e-9))) + " s";
  const whole = Math.round(at), two = (value) => String(value).padStart(2, "0");
  return span[1] < 3600 ? Math.floor(whole / 60) + ":" + two(whole % 60) : Math.floor(whole / 3600) + ":" + two(Math.floor(whole / 60) % 60) + ":" + two(whole % 60);
}
function drawAxis() {
  const context = sized(axis, axisHeight);
  context.fillStyle = colour("faint"); context.font = "12px system-ui,sans-serif"; context.textAlign = "center";
  ticks((at, each) => context.fillText(clock(at, each), place(at), axisHeight - 6));
  context.font = "600 11px system-ui,sans-serif";
  for (const [name, at, shade] of data.marks) {
    if (at < span[0] || at > span[1]) continue;
    context.fillStyle = colour(shade);
    context.textAlign = shade === "ink" ? "left" : "right";
    context.fillText(name, place(at) + (shade === "ink" ? 4 : -4), 12);
  }
}
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1e-9)));
  return [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= value);
}
function short(value) { return value >= 1e6 ? +(value / 1e6).toFixed(1) + "M" : value >= 1e4 ? +(value / 1e3).toFixed(1) + "k" : String(+value.toPrecision(3)); }
function drawRates() {
  if (rates === null || data.rates === null) return;
  const context = sized(rates, ratesHeight), { binS, results, errors, working, workingMax } = data.rates;
  const first = Math.max(0, Math.floor(span[0] / binS)), last = Math.min(results.length, Math.ceil(span[1] / binS));
  const step = Math.max(1, Math.ceil((last - first) / Math.max(40, chart.clientWidth / 4)));
  const mean = (values, bin) => { let sum = 0, count = 0; for (let at = bin; at < Math.min(last, bin + step); at++) { sum += values[at] || 0; count += 1; } return sum / Math.max(1, count); };
  const width = chart.clientWidth, top = 8, bottom = ratesHeight - 6, bins = [];
  for (let bin = first; bin < last; bin += step) bins.push(bin);
  const ended = bins.map((bin) => [mean(results, bin) / binS, mean(errors, bin) / binS]);
  const most = roundUp(Math.max(1e-6, ...ended.map(([ok, bad]) => ok + bad)));
  const y = (share) => bottom - share * (bottom - top);
  context.font = "12px system-ui,sans-serif"; context.textAlign = "right"; context.textBaseline = "middle";
  for (const share of [0, 0.5, 1]) {
    context.fillStyle = colour("line"); context.fillRect(left, Math.round(y(share)), width - left - right, 1);
    context.fillStyle = colour("faint"); context.fillText(short(most * share) + (share === 1 ? "/s" : ""), left - 8, y(share) + (share === 1 ? 3 : share === 0 ? -3 : 0));
  }
  context.save(); context.beginPath(); context.rect(left, 0, width - left - right, ratesHeight); context.clip();
  bins.forEach((bin, at) => {
    const x = place(bin * binS), until = place(Math.min((bin + step) * binS, end)), [ok, bad] = ended[at];
    context.fillStyle = colour("work-a"); context.fillRect(x, y(ok / most), Math.max(1, until - x - (until - x > 3 ? 1 : 0)), bottom - y(ok / most));
    if (bad > 0) { context.fillStyle = colour("death"); context.fillRect(x, y((ok + bad) / most), Math.max(1, until - x - (until - x > 3 ? 1 : 0)), Math.max(1, y(ok / most) - y((ok + bad) / most))); }
  });
  if (workingMax > 0) {
    context.strokeStyle = colour("ink"); context.lineWidth = 1.5; context.beginPath();
    bins.forEach((bin, at) => { const level = y(Math.min(1, mean(working, bin) / workingMax) * 0.96); const x = place(bin * binS), until = place((bin + step) * binS); if (at === 0) context.moveTo(x, level); else context.lineTo(x, level); context.lineTo(until, level); });
    context.stroke();
  }
  context.restore();
}
function rect(context, from, to, y, height, shade) {
  const x = Math.max(left, place(from)), until = Math.min(place(to), chart.clientWidth - right);
  if (until < left || x > chart.clientWidth - right || until <= x) return;
  context.fillStyle = shade;
  context.fillRect(x, y, Math.max(0.6, until - x), height);
}
function draw() {
  rowHeight = Math.max(1, Math.min(18, Math.floor(Math.max(900, Math.min(28000, rows.length * 3)) / Math.max(1, rows.length))));
  const height = rows.length * rowHeight + 4, context = sized(chart, height);
  const shades = Object.fromEntries(["work-a", "work-b", "copy", "lost", "cold", "idle", "pause", "death", "row", "line", "faint", "bound", "ink", "page"].map((name) => [name, colour(name)]));
  const gap = rowHeight > 3 ? 1 : 0, size = rowHeight - gap;
  rows.forEach((slot, row) => {
    const y = row * rowHeight;
    if (rowHeight > 3 && row % 2 === 0) { context.fillStyle = shades.row; context.fillRect(left, y, chart.clientWidth - left - right, rowHeight); }
    for (const machine of data.slots[slot]) {
      rect(context, machine.from, Math.min(machine.ready, end), y, size, shades.cold);
      if (data.presence) rect(context, machine.ready, machine.end, y, size, shades.idle);
    }
    bySlot[slot].forEach((bar, number) => rect(context, bar[1], bar[2], y, size, bar[7] ? shades.lost : bar[5] ? shades.copy : data.jobs > 1 ? "hsl(" + (bar[6] * 67 + 210) % 360 + " 55% " + (number % 2 ? 52 : 62) + "%)" : shades[number % 2 ? "work-b" : "work-a"]));
    for (const machine of data.slots[slot]) {
      for (const [from, to] of machine.pauses) rect(context, from, Math.min(to, machine.end), y + size * 0.25, Math.max(1, size * 0.5), shades.pause);
      if (!machine.lost || machine.end > span[1] || machine.end < span[0]) continue;
      const x = place(machine.end);
      context.fillStyle = shades.death; context.fillRect(x - 1.5, y, 4, Math.max(2, size));
      if (machine.silent && size > 4) { context.fillStyle = shades.page; context.fillRect(x - 0.5, y + 1.5, 2, size - 3); }
    }
    const factor = factorOf(slot);
    context.font = Math.min(11, rowHeight) + "px system-ui,sans-serif"; context.textAlign = "right"; context.textBaseline = "middle";
    if (rowHeight >= 9) {
      context.fillStyle = factor > 1 ? shades.death : shades.faint;
      context.fillText((factor > 1 ? "×" + factor + "  " : "") + (data.slots[slot].length === 1 ? data.slots[slot][0].name : slot), left - 8, y + rowHeight / 2);
    } else if (factor > 1) { context.fillStyle = shades.death; context.fillRect(left - 7, y, 4, Math.max(1, size)); }
  });
  context.strokeStyle = shades.line; context.lineWidth = 1;
  for (const [, at, name] of data.marks) {
    if (at < span[0] || at > span[1]) continue;
    context.strokeStyle = shades[name]; context.setLineDash(name === "ink" ? [] : [5, 4]);
    context.beginPath(); context.moveTo(place(at), 0); context.lineTo(place(at), height); context.stroke();
  }
  drawAxis();
  drawRates();
}
function look(from, to) { span = [Math.max(0, from), Math.min(end, to)]; draw(); }
function about(event) {
  const box = chart.getBoundingClientRect(), at = time(event.clientX - box.left), slot = rows[Math.floor((event.clientY - box.top) / rowHeight)];
  if (slot === undefined || event.clientX - box.left < left) return null;
  const machine = data.slots[slot].find((each) => at >= each.from && at < each.end);
  const lines = [data.rowWord + " " + (machine === undefined ? slot : machine.name) + " · " + at.toFixed(3) + " s"];
  if (machine !== undefined) {
    if (machine.factor !== 1) lines.push(machine.factor + " × slower");
    if (at < machine.ready) lines.push(machine.cold ? "cold start" : "start");
    if (machine.pauses.some(([from, to]) => at >= from && at < to)) lines.push("paused");
  }
  const bar = bySlot[slot].find((each) => at >= each[1] && at < each[2]);
  if (bar !== undefined) lines.push((bar[7] ? "lost, " : "") + (bar[5] ? "copy, " : "") + (bar[8] > 1 ? bar[8] + " assignments from " : "assignment ") + bar[4] + (data.jobs > 1 ? " of job " + bar[6] : "") + ": " + bar[3] + (bar[3] === 1 ? " item, " : " items, ") + bar[1].toFixed(3) + " to " + bar[2].toFixed(3) + " s");
  return lines.join("\\n");
}
chart.addEventListener("mousemove", (event) => {
  const text = about(event);
  tip.hidden = text === null;
  if (text === null) return;
  tip.textContent = text;
  tip.style.left = Math.min(event.clientX + 14, window.innerWidth - 300) + "px";
  tip.style.top = Math.min(event.clientY + 16, window.innerHeight - 80) + "px";
});
chart.addEventListener("mouseleave", () => { tip.hidden = true; });
chart.addEventListener("mousedown", (event) => { drag = time(event.clientX - chart.getBoundingClientRect().left); });
window.addEventListener("mouseup", (event) => {
  if (drag === null) return;
  const to = time(event.clientX - chart.getBoundingClientRect().left), [from, until] = [Math.min(drag, to), Math.max(drag, to)];
  drag = null;
  if (until - from > (span[1] - span[0]) / 200) look(from, until);
});
if (rates !== null) rates.addEventListener("dblclick", () => look(0, end));
chart.addEventListener("dblclick", () => look(0, end));
document.getElementById("tail").addEventListener("click", () => look(data.tail, end));
document.getElementById("whole").addEventListener("click", () => look(0, end));
order.addEventListener("change", () => { arrange(); draw(); });
window.addEventListener("resize", draw);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
arrange();
draw();
`;
