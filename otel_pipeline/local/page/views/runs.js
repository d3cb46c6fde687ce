// Lists of runs and of traces.
import { html, useEffect, useState } from "/page/vendor/htm-preact.js";
import { ask, useAnswer } from "/page/lib/api.js";
import { ago, count, duration, rate } from "/page/lib/format.js";
import { address, change, go, traceAddress } from "/page/lib/route.js";
import { Empty, Failed, FilterBox, Records, Status, When, useList, useNow } from "/page/views/parts.js";

// The pages of a list: the first one is live, the further ones are asked for.
function usePages(path, filter, again) {
  const first = useAnswer(path, { filter, limit: 100 }, again);
  const [more, setMore] = useState({ items: [], next: undefined });
  useEffect(() => setMore({ items: [], next: undefined }), [path, filter]);
  const next = more.next === undefined ? first.data?.next : more.next;
  const known = new Set((first.data?.items ?? []).map((item) => item.cursor));
  return {
    ...first,
    items: [...(first.data?.items ?? []), ...more.items.filter((item) => !known.has(item.cursor))],
    load: next && (async () => {
      const page = await ask(path, { filter, limit: 100, before: next });
      setMore((old) => ({ items: [...old.items, ...page.items], next: page.next }));
    }),
  };
}

const More = ({ load }) => load ? html`<p class="more"><button onClick=${load}>Show older</button></p>` : null;

const NoMatch = ({ what }) => html`<${Empty} title=${`No ${what} matches this filter`}>
  <p>Take a term out, or <button onClick=${() => change({ filter: "" })}>clear the filter</button>.</p><//>`;

export function Start() {
  const status = useAnswer("status", {});
  const spans = status.data?.spans;
  return html`<${Empty} title="No run yet">
    ${spans ? html`<p>${count(spans)} spans have come in, but none of them is a run: see the <a href="#/traces">traces</a>. A run is what <code>with pipeline.run():</code> surrounds.</p>` : ""}
    <p>Run a pipeline with its telemetry sent here:</p>
    <pre>OTEL_PIPELINE_LOCAL=1 python orders.py</pre>
    <p>or the one that comes with the library (<code>pip install "otel-pipeline[demo]"</code>):</p>
    <pre>OTEL_PIPELINE_LOCAL=1 otel-pipeline demo</pre>
    <p class="dim">Where <code>otel-pipeline ui</code> printed another OTLP/HTTP address than <code>http://127.0.0.1:4318</code>, set it as <code>OTEL_EXPORTER_OTLP_ENDPOINT</code> too. Runs appear here by themselves.</p><//>`;
}

export function Runs({ query, news }) {
  const now = useNow();
  const { items, error, data, load } = usePages("runs", query.filter, news.spans);
  const [chosen, setChosen] = useState([]);
  const choose = (run) => setChosen((old) => old.some((one) => one.trace_id === run.trace_id)
    ? old.filter((one) => one.trace_id !== run.trace_id)
    : [...old.slice(-1), run]);
  const comparable = chosen.length === 2 && chosen[0].pipeline === chosen[1].pipeline;
  const compare = () => {
    if (!comparable) return;
    const [before, after] = [...chosen].sort((one, other) => (one.start < other.start ? -1 : 1));
    go(address("compare", [before.trace_id, after.trace_id]));
  };
  const at = useList(items.length, (index) => go(traceAddress(items[index].trace_id)), {
    x: (index) => choose(items[index]), c: compare,
  });
  const longest = Math.max(1, ...items.map((run) => run.duration_ns ?? 0));
  return html`
    <${FilterBox} kind="runs" value=${query.filter} error=${error} onChange=${(filter) => change({ filter })}>
      ${chosen.length > 0 && html`<button type="button" class="primary" disabled=${!comparable} onClick=${compare}>${
        comparable ? "Compare the two" : chosen.length === 1 ? "Choose another run of it to compare" : "Two runs of one pipeline can be compared"}</button>`}
    <//>
    ${error && !query.filter && html`<${Failed} error=${error} />`}
    ${data && !items.length && (query.filter ? html`<${NoMatch} what="run" />` : html`<${Start} />`)}
    ${items.length > 0 && html`<table class="list runs">
      <thead><tr><th></th><th>Pipeline</th><th>Status</th><th>Started</th><th class="right">Duration</th><th class="share"></th><th class="right">Records</th><th class="right">Rate</th><th>Service</th><th>Run</th></tr></thead>
      <tbody>${items.map((run, index) => html`<tr key=${run.cursor} data-at=${index === at} onClick=${(event) => event.target.closest("a, input") || go(traceAddress(run.trace_id))}>
        <td class="tick"><input type="checkbox" aria-label=${`Choose run ${run.run_id} to compare`} checked=${chosen.some((one) => one.trace_id === run.trace_id)} onChange=${() => choose(run)} /></td>
        <td class="name"><a href=${traceAddress(run.trace_id)}>${run.pipeline}</a></td>
        <td><${Status} of=${run.status} /></td>
        <td class="nowrap"><${When} iso=${run.start} /> <span class="dim">${ago(run.start, now)}</span></td>
        <td class="right num">${run.status === "running" ? "–" : duration(run.duration_ns)}</td>
        <td class="share"><i class=${run.status} style=${{ width: `${(100 * (run.duration_ns ?? 0)) / longest}%` }}></i></td>
        <td class="right num"><${Records} of=${run.records} /></td>
        <td class="right num">${rate(Object.values(run.records).reduce((sum, one) => sum + (one ?? 0), 0), run.duration_ns)}</td>
        <td class="dim">${run.service}</td>
        <td class="mono dim cut" title=${run.run_id}>${run.run_id}</td>
      </tr>`)}</tbody></table><${More} load=${load} />`}`;
}

export function Traces({ query, news }) {
  const now = useNow();
  const { items, error, data, load } = usePages("traces", query.filter, news.spans);
  const open = (trace) => traceAddress(trace.trace_id, trace.root ? undefined : trace.span_id);
  const at = useList(items.length, (index) => go(open(items[index])));
  const longest = Math.max(1, ...items.map((trace) => trace.duration_ns));
  return html`
    <${FilterBox} kind="traces" value=${query.filter} error=${error} onChange=${(filter) => change({ filter })} />
    ${error && !query.filter && html`<${Failed} error=${error} />`}
    ${data && !items.length && (query.filter ? html`<${NoMatch} what="trace" />` : html`<${Empty} title="No trace yet">
      <p>Anything that sends OTLP can send here. From a program with the library:</p><pre>OTEL_PIPELINE_LOCAL=1 python orders.py</pre>
      <p>From any other: <code>OTEL_EXPORTER_OTLP_ENDPOINT</code> is the address that <code>otel-pipeline ui</code> printed.</p><//>`)}
    ${items.length > 0 && html`<table class="list">
      <thead><tr><th>${query.filter ? "Span that matches" : "Root span"}</th><th>Status</th><th>Started</th><th class="right">Duration</th><th class="share"></th><th>Service</th><th>Trace</th></tr></thead>
      <tbody>${items.map((trace, index) => html`<tr key=${trace.trace_id} data-at=${index === at} onClick=${(event) => event.target.closest("a") || go(open(trace))}>
        <td class="name"><a href=${open(trace)}>${trace.name || "(no name)"}</a></td>
        <td><${Status} of=${trace.status} /></td>
        <td class="nowrap"><${When} iso=${trace.start} /> <span class="dim">${ago(trace.start, now)}</span></td>
        <td class="right num">${duration(trace.duration_ns)}</td>
        <td class="share"><i class=${trace.status} style=${{ width: `${(100 * trace.duration_ns) / longest}%` }}></i></td>
        <td class="dim">${trace.service}</td>
        <td class="mono dim cut" title=${trace.trace_id}>${trace.trace_id}</td>
      </tr>`)}</tbody></table><${More} load=${load} />`}`;
}
