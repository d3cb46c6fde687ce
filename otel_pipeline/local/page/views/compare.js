// Two runs of one pipeline beside each other.
import { html } from "/page/vendor/htm-preact.js";
import { useAnswer } from "/page/lib/api.js";
import { handled, stageName } from "/page/lib/copy.js";
import { count, duration, rate, signed, text } from "/page/lib/format.js";
import { address, traceAddress } from "/page/lib/route.js";
import { Empty, Failed, Records, Status, When } from "/page/views/parts.js";

const SLOWER = 0.1; // a difference that is worth a colour

export function Compare({ words }) {
  const one = useRun(words[0]);
  const other = useRun(words[1]);
  const error = one.error ?? other.error;
  if (error) return html`<${Failed} error=${error} />`;
  if (!one.done || !other.done) return null;
  if (!one.run || !other.run) {
    return html`<${Empty} title="One of these runs is not here"><p>It has not come in, or was too old and has gone. Choose two in the <a href="#/runs">runs</a>.</p><//>`;
  }
  const names = [...new Set([...one.stages, ...other.stages].map((stage) => stage.name))];
  const rows = names.map((name) => [name, one.stages.find((stage) => stage.name === name), other.stages.find((stage) => stage.name === name)]);
  return html`
    <header class="title"><h1>${other.run.pipeline}</h1>${one.run.pipeline !== other.run.pipeline && html`<span class="bad">and ${one.run.pipeline}: two pipelines</span>`}
      <span class="space"></span><a class="button" href=${address("compare", [words[1], words[0]])}>Turn around</a></header>
    <table class="list compare"><thead><tr><th></th><th>Before</th><th>After</th><th class="right">Change</th></tr></thead><tbody>
      <tr><th>Run</th>${[one, other].map(({ run }) => html`<td><a class="mono" href=${traceAddress(run.trace_id)}>${run.run_id}</a></td>`)}<td></td></tr>
      <tr><th>Status</th>${[one, other].map(({ run }) => html`<td><${Status} of=${run.status} /></td>`)}<td></td></tr>
      <tr><th>Started</th>${[one, other].map(({ run }) => html`<td><${When} iso=${run.start} /></td>`)}<td></td></tr>
      <tr><th>Duration</th>${[one, other].map(({ run }) => html`<td class="num">${duration(run.duration_ns)}</td>`)}<${Change} from=${one.run.duration_ns} to=${other.run.duration_ns} less=${true} /></tr>
      <tr><th>Records</th>${[one, other].map(({ run }) => html`<td class="num"><${Records} of=${run.records} /></td>`)}<${Change} from=${one.run.records.success} to=${other.run.records.success} /></tr>
    </tbody></table>
    <h3>Stages</h3>
    <table class="list compare"><thead><tr><th>Stage</th><th class="right" colspan="3">Time</th><th class="right" colspan="3">Records</th><th class="right" colspan="3">Rate</th><th class="right" colspan="2">Errors and dropped</th></tr>
      <tr class="sub"><th></th>${["Time", "Records", "Rate"].map(() => html`<th class="right">before</th><th class="right">after</th><th class="right">change</th>`)}<th class="right">before</th><th class="right">after</th></tr></thead>
      <tbody>${rows.map(([name, before, after]) => html`<tr key=${name}>
        <td class="name">${stageName(after ?? before)}${!before && html` <small class="dim">new</small>`}${!after && html` <small class="dim">gone</small>`}</td>
        <td class="right num">${before ? duration(before.duration_ns) : "–"}</td><td class="right num">${after ? duration(after.duration_ns) : "–"}</td><${Change} from=${before?.duration_ns} to=${after?.duration_ns} less=${true} />
        <td class="right num">${before ? count(handled(before)) : "–"}</td><td class="right num">${after ? count(handled(after)) : "–"}</td><${Change} from=${before && handled(before)} to=${after && handled(after)} plain=${true} />
        <td class="right num">${before ? rate(handled(before), before.duration_ns) : "–"}</td><td class="right num">${after ? rate(handled(after), after.duration_ns) : "–"}</td><${Change} from=${before && handled(before) / before.duration_ns} to=${after && handled(after) / after.duration_ns} />
        <td class="right num">${lost(before)}</td><td class=${`right num ${lost(after) > lost(before) ? "bad" : ""}`}>${lost(after)}</td>
      </tr>`)}</tbody></table>
    <h3>What differs around them</h3>
    <${Differences} one=${one.span} other=${other.span} />`;
}

const lost = (stage) => (stage ? (stage.records.error ?? 0) + (stage.records.dropped ?? 0) : "–");

function useRun(trace = "") {
  const id = encodeURIComponent(trace);
  const runs = useAnswer("runs", { filter: `trace:${trace}`, limit: 1 });
  const stages = useAnswer(`traces/${id}/stages`, {});
  const rootId = stages.data?.items.find((stage) => stage.kind === "run")?.span_id;
  const span = useAnswer(rootId ? `traces/${id}/spans/${rootId}` : null, {});
  return {
    run: runs.data?.items[0], stages: stages.data?.items ?? [], span: span.data?.items[0],
    done: runs.data && stages.data, error: runs.error ?? stages.error,
  };
}

function Change({ from, to, less = false, plain = false }) {
  if (!from || to === undefined || to === null || Number.isNaN(to)) return html`<td class="right num dim">–</td>`;
  const ratio = to / from - 1;
  const tone = plain || Math.abs(ratio) < SLOWER ? "dim" : ratio > 0 === less ? "bad" : "good";
  return html`<td class=${`right num ${tone}`}>${signed(ratio)}</td>`;
}

function Differences({ one, other }) {
  if (!one || !other) return html`<p class="dim">–</p>`;
  const rows = [];
  for (const part of ["attributes", "resource"]) {
    for (const key of new Set([...Object.keys(one[part]), ...Object.keys(other[part])])) {
      if (key.startsWith("pipeline.records.")) continue; // above already
      const [before, after] = [text(one[part][key]), text(other[part][key])];
      if (before !== after) rows.push([key, before, after]);
    }
  }
  if (!rows.length) return html`<p class="dim">Nothing: their attributes and resources are the same.</p>`;
  return html`<table class="list compare"><thead><tr><th>Attribute</th><th>Before</th><th>After</th></tr></thead><tbody>${rows.map(([key, before, after]) => html`<tr><td class="mono">${key}</td><td class="mono">${before || "–"}</td><td class="mono">${after || "–"}</td></tr>`)}</tbody></table>`;
}
