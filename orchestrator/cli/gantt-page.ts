import { createHash } from "node:crypto";
import type { Picture } from "../simulate/trace.ts";

export interface GanttPage {
  readonly title: string;
  /** Label and value, shown above the picture. */
  readonly facts: readonly (readonly [label: string, value: string])[];
  readonly boundS: number;
  readonly makespanS: number;
  /** Told where there are several. */
  readonly jobs: number;
  readonly picture: Picture;
}

/** One file without anything from elsewhere: the data as JSON, a canvas, and a policy that lets only our own script run. */
export function ganttPage({ title, facts, boundS, makespanS, jobs, picture }: GanttPage): string {
  const data = {
    boundS: round(boundS),
    makespanS: round(makespanS),
    jobs,
    slots: picture.slots.map((machines) =>
      machines.map(({ fromS, readyS, endS, cold, silent, factor, pauses }) => ({
        from: round(fromS), ready: round(readyS), end: round(endS), cold, silent, factor, pauses: pauses.map(([from, to]) => [round(from), round(to)]),
      })),
    ),
    // slot, from, to, items, assignment, copy, job
    bars: picture.bars.map(({ slot, fromS, toS, items, assignment, copy, run }) => [slot, round(fromS), round(toS), items, assignment, copy ? 1 : 0, run]),
  };
  const policy = `default-src 'none'; script-src '${hashOf(script)}'; style-src '${hashOf(style)}'; base-uri 'none'; form-action 'none'`;
  const dropped = picture.barsDropped === 0 ? "" : `<p class="note">${picture.barsDropped} assignments are not shown.</p>`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}</title>
<style>${style}</style>
</head>
<body>
<header>
<h1>${escaped(title)}</h1>
<dl>${facts.map(([label, value]) => `<div><dt>${escaped(label)}</dt><dd>${escaped(value)}</dd></div>`).join("")}</dl>
<div class="bar">
<ul class="legend"><li><i class="work"></i>assignment</li><li><i class="copy"></i>copy</li><li><i class="cold"></i>start</li><li><i class="pause"></i>pause</li><li><i class="death"></i>end of a machine (silent: hollow)</li></ul>
<div class="controls"><label>Order <select id="order"><option value="number">by machine</option><option value="last">last to end first</option><option value="slow">slowest first</option></select></label>
<button id="tail" type="button">Tail</button><button id="whole" type="button">Whole run</button></div>
</div>
${dropped}
</header>
<main><canvas id="axis" aria-hidden="true"></canvas><canvas id="chart" role="img" aria-label="Assignments of each machine over time"></canvas></main>
<p id="tip" role="status" hidden></p>
<footer>Drag over a span of time to look closer; double-click for the whole run. Seconds of virtual time.</footer>
<script type="application/json" id="data">${JSON.stringify(data).replace(/</g, "\\u003c")}</script>
<script>${script}</script>
</body>
</html>
`;
}

function round(seconds: number): number {
  return Math.round(seconds * 1e4) / 1e4;
}

function hashOf(text: string): string {
  return `sha256-${createHash("sha256").update(text).digest("base64")}`;
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

const style = `
:root{color-scheme:light dark;--page:#fbfbfa;--ink:#1d1f22;--faint:#6b7178;--line:#e3e4e2;--row:#f1f2f0;--work-a:#3d7fc4;--work-b:#79abdf;--copy:#e8862e;--cold:#cfd6dd;--pause:#8d949c;--death:#c8323c;--bound:#22863a}
@media (prefers-color-scheme:dark){:root{--page:#15171a;--ink:#e6e8ea;--faint:#979da4;--line:#2b2f34;--row:#1c1f23;--work-a:#4a8fd6;--work-b:#2f6198;--copy:#f29b4b;--cold:#3a4149;--pause:#6d747c;--death:#f0616a;--bound:#58b96c}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:14px/1.45 system-ui,sans-serif}
header{padding:20px 24px 8px}
h1{margin:0 0 12px;font-size:20px;font-weight:600}
dl{display:flex;flex-wrap:wrap;gap:8px 28px;margin:0 0 14px}
dt{color:var(--faint);font-size:12px}
dd{margin:0;font-size:16px;font-variant-numeric:tabular-nums}
.bar{display:flex;flex-wrap:wrap;gap:8px 24px;align-items:center;justify-content:space-between}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:0;padding:0;list-style:none;color:var(--faint);font-size:13px}
.legend i{display:inline-block;width:14px;height:10px;margin-right:6px;border-radius:2px}
.work{background:var(--work-a)}.copy{background:var(--copy)}.cold{background:var(--cold)}.pause{background:var(--pause)}.death{background:var(--death)}
.legend i.death{width:4px}
.controls{display:flex;gap:8px;align-items:center;font-size:13px;color:var(--faint)}
select,button{font:inherit;color:var(--ink);background:var(--page);border:1px solid var(--line);border-radius:5px;padding:3px 9px}
button:hover{border-color:var(--faint)}
.note{color:var(--faint)}
main{position:relative;padding:0 24px}
canvas{display:block;width:100%}
#axis{position:sticky;top:0;background:var(--page)}
#chart{cursor:crosshair}
#tip{position:fixed;margin:0;padding:6px 10px;max-width:340px;pointer-events:none;background:var(--ink);color:var(--page);border-radius:5px;font-size:12px;white-space:pre-line}
#tip[hidden]{display:none}
footer{padding:10px 24px 24px;color:var(--faint);font-size:12px}
`;

const script = `
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const chart = document.getElementById("chart"), axis = document.getElementById("axis"), tip = document.getElementById("tip");
const order = document.getElementById("order");
const left = 64, right = 36, axisHeight = 34;
const end = Math.max(data.makespanS, data.boundS) * 1.01;
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
function drawAxis() {
  const context = sized(axis, axisHeight);
  context.fillStyle = colour("faint"); context.font = "12px system-ui,sans-serif"; context.textAlign = "center";
  ticks((at, each) => context.fillText(at.toFixed(Math.max(0, -Math.floor(Math.log10(each) + 1e-9))) + " s", place(at), axisHeight - 6));
  context.font = "600 11px system-ui,sans-serif";
  for (const [name, at, shade] of [["bound", data.boundS, "bound"], ["end", data.makespanS, "ink"]]) {
    if (at < span[0] || at > span[1]) continue;
    context.fillStyle = colour(shade);
    context.textAlign = name === "bound" ? "right" : "left";
    context.fillText(name, place(at) + (name === "bound" ? -4 : 4), 12);
  }
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
  const shades = Object.fromEntries(["work-a", "work-b", "copy", "cold", "pause", "death", "row", "line", "faint", "bound", "ink", "page"].map((name) => [name, colour(name)]));
  const gap = rowHeight > 3 ? 1 : 0, size = rowHeight - gap;
  rows.forEach((slot, row) => {
    const y = row * rowHeight;
    if (rowHeight > 3 && row % 2 === 0) { context.fillStyle = shades.row; context.fillRect(left, y, chart.clientWidth - left - right, rowHeight); }
    for (const machine of data.slots[slot]) {
      rect(context, machine.from, Math.min(machine.ready, end), y, size, shades.cold);
    }
    bySlot[slot].forEach((bar, number) => rect(context, bar[1], bar[2], y, size, bar[5] ? shades.copy : data.jobs > 1 ? "hsl(" + (bar[6] * 67 + 210) % 360 + " 55% " + (number % 2 ? 52 : 62) + "%)" : shades[number % 2 ? "work-b" : "work-a"]));
    for (const machine of data.slots[slot]) {
      for (const [from, to] of machine.pauses) rect(context, from, Math.min(to, machine.end), y + size * 0.25, Math.max(1, size * 0.5), shades.pause);
      if (machine.end > span[1] || machine.end < span[0]) continue;
      const x = place(machine.end);
      context.fillStyle = shades.death; context.fillRect(x - 1.5, y, 4, Math.max(2, size));
      if (machine.silent && size > 4) { context.fillStyle = shades.page; context.fillRect(x - 0.5, y + 1.5, 2, size - 3); }
    }
    const factor = factorOf(slot);
    context.font = Math.min(11, rowHeight) + "px system-ui,sans-serif"; context.textAlign = "right"; context.textBaseline = "middle";
    if (rowHeight >= 9) {
      context.fillStyle = factor > 1 ? shades.death : shades.faint;
      context.fillText((factor > 1 ? "×" + factor + "  " : "") + slot, left - 8, y + rowHeight / 2);
    } else if (factor > 1) { context.fillStyle = shades.death; context.fillRect(left - 7, y, 4, Math.max(1, size)); }
  });
  context.strokeStyle = shades.line; context.lineWidth = 1;
  for (const [at, shade] of [[data.boundS, shades.bound], [data.makespanS, shades.ink]]) {
    if (at < span[0] || at > span[1]) continue;
    context.strokeStyle = shade; context.setLineDash(shade === shades.bound ? [5, 4] : []);
    context.beginPath(); context.moveTo(place(at), 0); context.lineTo(place(at), height); context.stroke();
  }
  drawAxis();
}
function look(from, to) { span = [Math.max(0, from), Math.min(end, to)]; draw(); }
function about(event) {
  const box = chart.getBoundingClientRect(), at = time(event.clientX - box.left), slot = rows[Math.floor((event.clientY - box.top) / rowHeight)];
  if (slot === undefined || event.clientX - box.left < left) return null;
  const lines = ["machine " + slot + " · " + at.toFixed(3) + " s"];
  const machine = data.slots[slot].find((each) => at >= each.from && at < each.end);
  if (machine !== undefined) {
    if (machine.factor !== 1) lines.push(machine.factor + " × slower");
    if (at < machine.ready) lines.push(machine.cold ? "cold start" : "start");
    if (machine.pauses.some(([from, to]) => at >= from && at < to)) lines.push("paused");
  }
  const bar = bySlot[slot].find((each) => at >= each[1] && at < each[2]);
  if (bar !== undefined) lines.push((bar[5] ? "copy, " : "") + "assignment " + bar[4] + (data.jobs > 1 ? " of job " + bar[6] : "") + ": " + bar[3] + " items, " + bar[1].toFixed(3) + " to " + bar[2].toFixed(3) + " s");
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
chart.addEventListener("dblclick", () => look(0, end));
document.getElementById("tail").addEventListener("click", () => look(Math.min(data.boundS, data.makespanS) * 0.9, end));
document.getElementById("whole").addEventListener("click", () => look(0, end));
order.addEventListener("change", () => { arrange(); draw(); });
window.addEventListener("resize", draw);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
arrange();
draw();
`;
