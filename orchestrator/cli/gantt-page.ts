import { ganttBody, ganttData, ganttScript, ganttStyle } from "../observe/report/gantt.ts";
import { html, page } from "../observe/report/html.ts";
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

/** A simulated run: what each machine was at, against the best possible. */
export function ganttPage({ title, facts, boundS, makespanS, jobs, picture }: GanttPage): string {
  const body = html`<header>
<h1>${title}</h1>
<dl>${facts.map(([label, value]) => html`<div><dt>${label}</dt><dd>${value}</dd></div>`)}</dl>
${picture.barsDropped > 0 && html`<p class="note">${picture.barsDropped} assignments are not shown.</p>`}
</header>
<main>${ganttBody({
    legend: [
      { tone: "work", text: "assignment" },
      { tone: "copy", text: "copy" },
      { tone: "cold", text: "start" },
      { tone: "pause", text: "pause" },
      { tone: "death", text: "end of a machine (silent: hollow)" },
    ],
    orders: ["number", "last", "slow"],
    label: "Assignments of each machine over time",
    ratesLabel: null,
  })}</main>
<footer>Drag over a span of time to look closer; double-click for the whole run. Seconds of virtual time.</footer>`;
  const data = ganttData({
    picture: {
      rows: picture.slots.map((machines, slot) => machines.map((machine) => ({ ...machine, name: String(slot), lost: true }))),
      bars: picture.bars.map(({ slot, run, ...bar }) => ({ ...bar, row: slot, job: run, lost: false, count: 1 })),
    },
    rowWord: "machine",
    presence: false,
    endS: Number.isFinite(makespanS) ? Math.max(boundS, makespanS) : boundS,
    marks: [{ name: "bound", atS: boundS, tone: "bound" }, ...(Number.isFinite(makespanS) ? [{ name: "end", atS: makespanS, tone: "ink" } as const] : [])],
    tailFromS: Math.min(boundS, makespanS) * 0.9,
    jobs,
    rates: null,
  });
  return page({ title, body, style: ganttStyle + style, script: { text: ganttScript, data } });
}

const style = `
:root{--card:var(--page)}
header{padding:20px 24px 8px}
h1{margin:0 0 12px;font-size:20px;font-weight:600}
dl{display:flex;flex-wrap:wrap;gap:8px 28px;margin:0 0 14px}
dt{color:var(--faint);font-size:12px}
dd{margin:0;font-size:16px;font-variant-numeric:tabular-nums}
.note{color:var(--faint)}
main{padding:0 24px}
footer{padding:10px 24px 24px;color:var(--faint);font-size:12px}
`;
