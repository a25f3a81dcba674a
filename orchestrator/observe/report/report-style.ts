/** Beside the style of what is drawn. */
export const reportStyle = `
:root{--good:#1c7a46;--bad:#b3261e;--fair:#8a5a00;--prepare:#b9a6d9;--start:#cfd6dd;--write:#7fb79a;--finish:#a8c9b8}
@media (prefers-color-scheme:dark){:root{--good:#5fcf92;--bad:#ff8a80;--fair:#f0b94a;--prepare:#7a64a3;--start:#4a525b;--write:#3f7a5c;--finish:#2f5a45}}
main{max-width:1240px;margin:0 auto;padding:28px 24px 40px}
h1{margin:0 0 6px;font-size:26px;font-weight:650;line-height:1.2;overflow-wrap:anywhere}
h2{margin:0 0 10px;font-size:17px;font-weight:600}
p{margin:0 0 10px;max-width:95ch}
header p{margin:0 0 4px}
.faint{color:var(--faint)}
.state{font-weight:600}
.state.good{color:var(--good)}.state.bad{color:var(--bad)}.state.fair{color:var(--fair)}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:10px;margin:18px 0;padding:0;list-style:none}
.figures li{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px;color:var(--faint);font-size:13px}
.figures b{display:block;font-size:20px;line-height:1.3;font-weight:650;color:var(--ink);font-variant-numeric:tabular-nums;white-space:nowrap}
.figures .good b{color:var(--good)}.figures .bad b{color:var(--bad)}
.notes{margin:0 0 18px;padding:10px 14px 10px 30px;border:1px solid var(--line);border-left:4px solid var(--fair);border-radius:6px;background:var(--card)}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 20px;margin:0 0 16px}
.phases{display:block;border-radius:6px;overflow:hidden;margin-bottom:8px}
rect.prepare{fill:var(--prepare)}rect.start{fill:var(--start)}rect.ramp{fill:var(--work-b)}rect.full{fill:var(--work-a)}rect.tail{fill:var(--copy)}rect.write{fill:var(--write)}rect.finish{fill:var(--finish)}rect.rest{fill:var(--row)}
i.prepare{background:var(--prepare)}i.start{background:var(--start)}i.ramp{background:var(--work-b)}i.full{background:var(--work-a)}i.tail{background:var(--copy)}i.write{background:var(--write)}i.finish{background:var(--finish)}
th i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:8px}
.reasons{margin:14px 0 0;padding-left:20px;max-width:95ch}
.reasons li{margin-bottom:6px}
.wide{overflow-x:auto}
.wide+p{margin-top:10px}
section>p:last-child{margin-bottom:0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;min-width:min(100%,520px)}
th,td{padding:5px 18px 5px 0;text-align:right;font-weight:400;vertical-align:top;white-space:nowrap}
tbody tr+tr>*{border-top:1px solid var(--line)}
thead th{color:var(--faint);font-size:12px}
tbody th{text-align:left}
td.words,th.words{text-align:left;white-space:normal;min-width:160px;overflow-wrap:anywhere}
td.words{color:var(--ink)}
td.meter{width:170px;min-width:90px;padding-top:10px}
td.meter svg{display:block;border-radius:3px}
tr.most th,tr.most td{font-weight:600}
code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}
a{color:inherit}
.input{overflow-wrap:anywhere}
.plain{margin:0;padding:0;list-style:none}
.plain li:first-child{font-size:17px;font-weight:600}
footer{color:var(--faint);font-size:13px;padding:4px 2px}
@media (max-width:560px){
main{padding:18px 12px 30px}section{padding:14px 12px}th,td{padding-right:12px}
.flow thead{display:none}.flow,.flow tbody{display:block;min-width:0}
.flow tr{display:flex;flex-wrap:wrap;padding:4px 0}.flow tbody tr+tr{border-top:1px solid var(--line)}
.flow tbody tr+tr>*{border:0}.flow th{flex:1}.flow td.meter{display:none}.flow td.words{flex-basis:100%;padding-top:0}
}
`;
