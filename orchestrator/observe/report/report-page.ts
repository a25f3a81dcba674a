import type { JsonValue } from "../../../task-manager/protocol.ts";
import { costLines, usdText } from "../cost.ts";
import { count, duration, rate } from "../progress.ts";
import { withoutSecrets } from "../run-log.ts";
import type { RunState, StageShare, Summary } from "../summary.ts";
import { items, phasesOf, reasonsOf, type Phase } from "./explain.ts";
import { ganttBody, ganttData, ganttScript, ganttStyle } from "./gantt.ts";
import { html, page, type Html } from "./html.ts";
import { reportStyle } from "./report-style.ts";
import type { Tally, TimelineReport } from "./timeline.ts";

export interface Report {
  readonly name: string;
  readonly backend: string;
  /** null: the run has none, since it was killed or is under way. */
  readonly summary: Summary | null;
  readonly timeline: TimelineReport;
  /** What a reader has to know of the page itself. */
  readonly note: string | null;
}

/** Of a list on the page. */
const shownMax = 50;
const inputLengthMax = 160;

/** All that is known of a run, on one page that takes nothing from elsewhere. */
export function reportPage(report: Report): string {
  const { name, summary, timeline } = report;
  const body = html`<main>
${headOf(report)}
${figuresOf(report)}
${notesOf(report)}
${whySection(report)}
${timeSection(report)}
${summary !== null && stagesSection(summary)}
${summary !== null && summary.errors.length > 0 && errorsSection(summary)}
${troubleSection(timeline)}
${summary?.cost !== undefined && costSection(summary.cost)}
${hostsSection(summary?.hosts)}
${filesSection(summary)}
</main>`;
  const script = timeline.assignments === 0 ? null : { text: ganttScript, data: pictureData(timeline) };
  return page({ title: `${name}: ${stateText(summary, timeline)}`, body, style: ganttStyle + reportStyle, script });
}

// ---- what came out ----

const states: Readonly<Record<RunState, readonly [tone: string, text: string]>> = {
  succeeded: ["good", "every item has a result"],
  "finished-with-errors": ["fair", "finished, some items ended as errors"],
  failed: ["bad", "stopped early"],
  cancelled: ["bad", "interrupted"],
};

function stateText(summary: Summary | null, { ended }: TimelineReport): string {
  if (summary !== null) return states[summary.state]?.[1] ?? summary.state;
  return ended ? "ended, but has no summary" : "did not come to its end, or has not yet";
}

function headOf({ name, backend, summary, timeline }: Report): Html {
  const started = summary === null ? null : new Date(summary.startedAt);
  const when = started === null || Number.isNaN(started.getTime()) ? "" : `${started.toISOString().slice(0, 16).replace("T", " ")} UTC`;
  const facts = [when, summary?.runId ?? "", `backend ${backend}`].filter((fact) => fact !== "");
  return html`<header>
<h1>${name}</h1>
<p class="state ${summary === null ? "bad" : (states[summary.state]?.[0] ?? "bad")}">${stateText(summary, timeline)}</p>
<p class="faint">${facts.join(" · ")}</p>
${summary !== null && summary.message !== "" && html`<p>${withoutSecrets(summary.message)}</p>`}
</header>`;
}

interface Figure {
  readonly value: string;
  readonly text: string;
  readonly tone?: "good" | "bad";
}

function figuresOf({ summary, timeline }: Report): Html {
  const figures = [...(summary === null ? figuresOfTimeline(timeline) : figuresOfSummary(summary)), ...peakFigure(timeline)];
  return html`<ul class="figures">${figures.map(({ value, text, tone }) => html`<li class="${tone ?? ""}"><b>${value}</b>${text}</li>`)}</ul>`;
}

function figuresOfSummary({ counts, itemsAre, makespanMs, itemsPerSecond, cost }: Summary): readonly Figure[] {
  const left = counts.items - counts.succeeded - counts.failed;
  return [
    { value: count(counts.items), text: itemsAre === "all" ? "items" : `items, ${itemsAre}` },
    { value: count(counts.succeeded), text: counts.reused > 0 ? `with a result, ${count(counts.reused)} of them from earlier runs` : "with a result", tone: "good" },
    { value: count(counts.failed), text: counts.failed === 1 ? "error" : "errors", ...(counts.failed > 0 ? { tone: "bad" } : {}) },
    ...(left > 0 ? [{ value: count(left), text: "still to do" }] : []),
    { value: duration(makespanMs), text: "from start to end" },
    { value: rate(itemsPerSecond), text: "items a second" },
    ...(cost === undefined ? [] : [{ value: usdText(cost.usd), text: `by the prices of ${cost.pricesDate}` }]),
    ...(cost === undefined || cost.per1000ItemsUsd === null ? [] : [{ value: usdText(cost.per1000ItemsUsd), text: "per 1,000 items" }]),
  ];
}

function figuresOfTimeline({ runMs, throughput }: TimelineReport): readonly Figure[] {
  const sum = (values: readonly number[]) => count(values.reduce((total, value) => total + value, 0));
  return [
    { value: sum(throughput.results), text: "results", tone: "good" },
    { value: sum(throughput.errors), text: "errors" },
    { value: duration(runMs), text: "until its last recorded step" },
  ];
}

function peakFigure({ workingPeak }: TimelineReport): readonly Figure[] {
  return workingPeak === 0 ? [] : [{ value: count(workingPeak), text: workingPeak === 1 ? "Task Manager" : "Task Managers at work at once" }];
}

function notesOf({ summary, note }: Report): Html | null {
  const notes = [...(note === null ? [] : [note]), ...(summary?.notes ?? []).slice(0, shownMax)];
  return notes.length === 0 ? null : html`<ul class="notes">${notes.map((text) => html`<li>${withoutSecrets(text)}</li>`)}</ul>`;
}

// ---- why it took so long ----

function whySection({ summary, timeline }: Report): Html {
  const phases = phasesOf(timeline, summary?.times ?? null);
  return html`<section><h2>Why it took so long</h2>
${phaseBar(phases)}
<ul class="reasons">${reasonsOf(timeline, summary).map((text) => html`<li>${text}</li>`)}</ul>
</section>`;
}

/** Every moment of the run has its place in the bar. */
function phaseBar(phases: readonly Phase[]): Html {
  const wholeMs = phases.reduce((sum, { ms }) => sum + ms, 0);
  let atMs = 0;
  const parts = phases.map(({ kind, name, ms }) => {
    const x = (100 * atMs) / Math.max(1, wholeMs);
    atMs += ms;
    return html`<rect class="${kind}" x="${x.toFixed(3)}%" y="0" width="${((100 * ms) / Math.max(1, wholeMs)).toFixed(3)}%" height="26"><title>${name}: ${duration(ms)}</title></rect>`;
  });
  const rows = phases.map(({ kind, name, ms, text }) => html`<tr><th><i class="${kind}"></i>${name}</th><td>${duration(ms)}</td><td>${share(ms, wholeMs)}</td><td class="words">${text}</td></tr>`);
  return html`<svg class="phases" width="100%" height="26" role="img" aria-label="What the time went to">${parts}</svg>
<div class="wide"><table class="flow"><tbody>${rows}</tbody></table></div>`;
}

function share(part: number, whole: number): string {
  return `${((100 * part) / Math.max(1, whole)).toFixed(part * 10 < whole ? 1 : 0)} %`;
}

// ---- what happened when ----

function timeSection({ timeline }: Report): Html | null {
  if (timeline.assignments === 0) return null;
  const { picture, copies, losses } = timeline;
  const left = leftOut(timeline);
  return html`<section><h2>What happened when</h2>
<p class="faint">Above: items ended a second (errors red), and by the line how many Task Managers had work. Below: a row a Task Manager, a bar an assignment. Drag over a span of time to look closer, double-click for all of it.${left !== null && html` ${left}`}</p>
${ganttBody({
    legend: [
      { tone: "work", text: `assignment (${count(timeline.assignments)})` },
      ...(copies > 0 ? [{ tone: "copy", text: `copy (${count(copies)})` } as const] : []),
      ...(picture.bars.some(({ lost }) => lost) ? [{ tone: "lost", text: "lost with its Task Manager" } as const] : []),
      { tone: "cold", text: "start" },
      { tone: "idle", text: "without work" },
      ...(losses.length > 0 ? [{ tone: "death", text: "loss" } as const] : []),
    ],
    orders: ["number", "last"],
    label: "Assignments of each Task Manager over time",
    ratesLabel: "Items ended a second, and Task Managers with work, over time",
  })}
</section>`;
}

function leftOut({ rowsSeen, rowStride, joinedS, picture }: TimelineReport): string | null {
  const said = [
    ...(rowStride > 1 ? [`Of ${count(rowsSeen)} rows every ${ordinal(rowStride)} is drawn, ${count(picture.rows.length)} in all.`] : []),
    ...(joinedS > 0 ? [`Neighbouring assignments that took less than ${duration(joinedS * 1000)} together are one bar.`] : []),
  ];
  return said.length === 0 ? null : said.join(" ");
}

function ordinal(number: number): string {
  const ends: Readonly<Record<number, string>> = { 1: "st", 2: "nd", 3: "rd" };
  return `${number}${Math.floor((number % 100) / 10) === 1 ? "th" : (ends[number % 10] ?? "th")}`;
}

function pictureData(timeline: TimelineReport): unknown {
  const { picture, runMs, throughput, workingPeak, fullToMs } = timeline;
  return ganttData({
    picture,
    rowWord: "Task Manager",
    presence: true,
    endS: runMs / 1000,
    marks: [],
    tailFromS: (fullToMs * 0.97) / 1000,
    jobs: 1,
    rates: { binS: throughput.binMs / 1000, results: throughput.results, errors: throughput.errors, working: throughput.working, workingMax: workingPeak },
  });
}

// ---- figures by stage, error, host ----

function stagesSection({ stages, bottleneck, machineShare, processorShare, taskManagersRssMb }: Summary): Html | null {
  const rows = Object.entries(stages) as [string, StageShare][];
  if (rows.length === 0) return null;
  const row = (name: string, busyShare: number, rest: Html) =>
    html`<tr class="${bottleneck?.stage === name ? "most" : ""}"><th>${name}</th><td class="meter">${meter(busyShare)}</td><td>${share(busyShare, 1)}</td>${rest}</tr>`;
  return html`<section><h2>Stages</h2>
<p class="faint">The share of the time that a stage's lanes were at work. The one that is nearly always at work holds the others up.</p>
<div class="wide"><table><thead><tr><th></th><th></th><th>at work</th><th>an item</th><th>lanes</th><th>items</th></tr></thead><tbody>
${rows.map(([name, { busyMs, busyShare, lanes, items: number }]) => row(name, busyShare, html`<td>${(busyMs / Math.max(1, number)).toFixed(2)} ms</td><td>${count(lanes)}</td><td>${count(number)}</td>`))}
${typeof machineShare === "number" && row("processor", machineShare, html`<td class="words" colspan="3">of all cores, ${share(processorShare ?? 0, 1)} by Task Managers</td>`)}
</tbody></table></div>
${taskManagersRssMb > 0 && html`<p class="faint">Memory of all Task Managers together: ${count(taskManagersRssMb)} MB at most.</p>`}
</section>`;
}

function meter(value: number): Html {
  return html`<svg width="100%" height="10" aria-hidden="true"><rect class="rest" width="100%" height="10"/><rect class="full" width="${(100 * Math.min(1, Math.max(0, value))).toFixed(1)}%" height="10"/></svg>`;
}

function errorsSection({ errors, counts, runDir }: Summary): Html {
  const most = errors.reduce((top, { count: number }) => Math.max(top, number), 1);
  return html`<section><h2>Errors by code</h2>
<div class="wide"><table class="flow"><thead><tr><th class="words">code</th><th class="words">stage</th><th></th><th>items</th><th class="words">for example</th></tr></thead><tbody>
${errors.slice(0, shownMax).map(({ code, stage, count: number, example }) => html`<tr><th><code>${code}</code></th><td class="words">${stage}</td><td class="meter">${meter(number / most)}</td><td>${count(number)}</td>
<td class="words">item ${example.index}, ${inputOf(example.input)}<br><span class="faint">${withoutSecrets(example.message)}</span></td></tr>`)}
</tbody></table></div>
${counts.failed > 0 && html`<p class="faint">All of them are in failed.jsonl of the home; <code>splitrun resume HOME --retry-failed</code> tries them again. What each code means: docs/errors.md. This run: ${runDir}</p>`}
</section>`;
}

/** A link only where it leads to what was downloaded: signed ones are shown without their query, and lead nowhere. */
function inputOf(input: JsonValue): Html {
  const text = withoutSecrets(typeof input === "string" ? input : JSON.stringify(input));
  const short = text.length > inputLengthMax ? `${text.slice(0, inputLengthMax - 1)}…` : text;
  const url = typeof input === "string" && text === input && URL.canParse(input) ? new URL(input) : null;
  if (url === null || !["http:", "https:"].includes(url.protocol) || url.search !== "") return html`<span class="input">${short}</span>`;
  return html`<a class="input" href="${url.href}" rel="noreferrer noopener">${short}</a>`;
}

function troubleSection({ losses, launchEnds, returned }: TimelineReport): Html | null {
  if (losses.length + launchEnds.length + returned.length === 0) return null;
  const tallies = (list: readonly (Tally & { readonly reason?: string })[], what: string) =>
    list.map(({ count: number, example, reason }) => html`<tr><th>${reason === undefined ? what : `${what}: ${reason}`}</th><td>${count(number)}</td><td class="words">${example}</td></tr>`);
  return html`<section><h2>What went another way</h2>
<div class="wide"><table class="flow"><tbody>${tallies(losses, "Task Manager lost")}${tallies(launchEnds, "launch without a Task Manager")}
${returned.map(({ cause, items: number }) => html`<tr><th>given back</th><td>${count(number)}</td><td class="words">${items(number)}, ${causes[cause] ?? cause}; it cost no try</td></tr>`)}
</tbody></table></div></section>`;
}

const causes: Readonly<Record<string, string>> = {
  MEMORY: "for lack of memory",
  HOST_BUSY: "since their host asked for fewer requests",
  DRAIN: "by Task Managers that were asked to end",
  DEADLINE: "since they could not be begun in time",
  RECLAIMED: "to be handed to an idle Task Manager",
  RESTART: "by Task Managers that had to be replaced",
};

function costSection(cost: NonNullable<Summary["cost"]>): Html {
  return html`<section><h2>Cost</h2><ul class="plain">${costLines(cost).map((line) => html`<li>${line.trim()}</li>`)}</ul></section>`;
}

/** A summary of an older version has none. */
function hostsSection(hosts: Summary["hosts"] | undefined): Html | null {
  if (hosts === undefined || hosts.length === 0) return null;
  return html`<section><h2>Hosts in trouble</h2>
<p class="faint">They asked for fewer requests, or did not answer in time.</p>
<div class="wide"><table><thead><tr><th class="words">host</th><th>429 and 503</th><th>time-outs</th><th>left alone for</th><th>requests a second, at the end</th></tr></thead><tbody>
${hosts.slice(0, shownMax).map(({ host, refused, timeouts, heldBackMs, requestsPerSecond }) =>
    html`<tr><th>${host}</th><td>${count(refused)}</td><td>${count(timeouts)}</td><td>${duration(heldBackMs)}</td><td>${requestsPerSecond === null ? "as many as came" : rate(requestsPerSecond)}</td></tr>`)}
</tbody></table></div></section>`;
}

function filesSection(summary: Summary | null): Html {
  return html`<footer><p>Beside this page: <code>summary.json</code>, <code>job.json</code>, <code>events.jsonl</code> (<code>splitrun replay</code> steps the scheduler through it; Task Managers are numbered as there) and <code>logs/</code>.${summary !== null && html`<br>Results: <code>${summary.output}</code>`}</p></footer>`;
}
