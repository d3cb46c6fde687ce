// A trace: its stages, its waterfall, and the span that is selected.
import { html, useMemo, useState } from "/page/vendor/htm-preact.js";
import { ask, useAnswer } from "/page/lib/api.js";
import { handled, markdown, stageName, toClipboard } from "/page/lib/copy.js";
import { count, duration, rate, time } from "/page/lib/format.js";
import { useKeys } from "/page/lib/keys.js";
import { criticalTime, model, rows } from "/page/lib/model.js";
import { address, change } from "/page/lib/route.js";
import { Dialog, Empty, Failed, Records, Status } from "/page/views/parts.js";
import { SpanPanel } from "/page/views/span.js";
import { Waterfall } from "/page/views/waterfall.js";

export function Trace({ words, query, news }) {
  const id = words[0] ?? "";
  const outline = useAnswer(`traces/${encodeURIComponent(id)}`, {}, news.spans);
  const trace = useMemo(() => (outline.data?.items.length ? model(outline.data) : null), [outline.data]);
  if (outline.error && !outline.data) return html`<${Failed} error=${outline.error} />`;
  if (outline.data && !trace) {
    return html`<${Empty} title="This trace is not here"><p>Nothing of <code>${id}</code> has come in, or it was too old and has gone.
      See the <a href="#/traces">traces</a> that are here; this page shows it if it still comes.</p><//>`;
  }
  return trace && html`<${Shown} id=${id} outline=${outline.data} trace=${trace} query=${query} news=${news} />`;
}

function Shown({ id, outline, trace, query, news }) {
  const run = useAnswer("runs", { filter: `trace:${id}`, limit: 1 }, news.spans).data?.items[0];
  const stages = useAnswer(`traces/${id}/stages`, {}, trace.all.length).data?.items ?? [];
  const [folded, setFolded] = useState(new Set());
  const [zoom, setZoom] = useState(null);
  const [find, setFind] = useState("");
  const [said, setSaid] = useState("");
  const [copied, setCopied] = useState(null); // the text, where there is no clipboard
  const shown = useMemo(() => rows(trace.roots, folded), [trace, folded]);
  const selected = trace.nodes.get(query.span) ?? trace.roots[0];
  const select = (node) => {
    if (!node) return;
    const open = new Set(folded);
    for (let up = node.parent; up; up = up.parent) open.delete(up.id);
    if (open.size !== folded.size) setFolded(open);
    change({ span: node.id }, { quiet: true });
  };
  const fold = (node, on = !folded.has(node.id)) => {
    if (!node.children.length) return;
    const next = new Set(folded);
    if (on) next.add(node.id);
    else next.delete(node.id);
    setFolded(next);
  };
  const next = (list, test) => {
    const from = list.indexOf(selected);
    select([...list.slice(from + 1), ...list.slice(0, from + 1)].find(test));
  };
  const step = (by) => select(shown[Math.max(0, Math.min(shown.length - 1, shown.indexOf(selected) + by))]);
  const say = (words) => {
    setSaid(words);
    setTimeout(() => setSaid(""), 2500);
  };
  const copy = async (form) => {
    try {
      const words = form === "Markdown"
        ? markdown({ trace, outline, stages, run })
        : JSON.stringify(await ask(`traces/${id}/otlp`), null, 2);
      if (await toClipboard(words)) say(`Copied as ${form}`);
      else setCopied(words);
    } catch (error) {
      say(error.message);
    }
  };
  const wanted = find.trim().toLowerCase();
  const matches = (node) => node.name.toLowerCase().includes(wanted) || node.id === wanted;
  useKeys({
    j: () => step(1), ArrowDown: () => step(1), k: () => step(-1), ArrowUp: () => step(-1),
    ArrowLeft: () => (selected.children.length && !folded.has(selected.id) ? fold(selected, true) : select(selected.parent)),
    ArrowRight: () => (folded.has(selected.id) ? fold(selected, false) : select(selected.children[0])),
    e: () => next(trace.all, (node) => node.error),
    p: () => next(trace.all, (node) => node.critical.length),
    z: () => setZoom([selected.start, Math.max(selected.end, selected.start + 1)]),
    Z: () => setZoom(null), Escape: () => setZoom(null),
    y: () => copy("Markdown"), Y: () => copy("JSON"),
    "/": () => document.querySelector("input[name=find]")?.focus(),
  });
  const errors = trace.all.filter((node) => node.error).length;
  const found = wanted ? trace.all.filter(matches).length : 0;
  return html`
    <header class="title">
      <h1>${trace.roots[0].name}</h1>
      ${run ? html`<${Status} of=${run.status} />` : errors ? html`<${Status} of="error" />` : ""}
      <dl>
        <div><dt>started</dt><dd title=${outline.start}>${time(outline.start)}</dd></div>
        <div><dt>took</dt><dd>${duration(outline.duration_ns)}</dd></div>
        <div><dt>spans</dt><dd>${count(trace.all.length)}</dd></div>
        ${errors > 0 && html`<div><dt>errors</dt><dd><button class="bad" onClick=${() => next(trace.all, (node) => node.error)} title="To the next span with an error (e)">${count(errors)}</button></dd></div>`}
        ${run && html`<div><dt>records</dt><dd><${Records} of=${run.records} /></dd></div>`}
        <div><dt>service</dt><dd>${[...new Set(Object.values(outline.services))].join(", ") || "–"}</dd></div>
      </dl>
      <span class="space"></span>
      <span class="tools"><span class="said" role="status">${said}</span>
      ${run && html`<${Before} run=${run} />`}
      <a class="button" href=${address("logs", [], { filter: `trace:${id}` })}>Log lines</a>
      <button onClick=${() => copy("Markdown")} title="Copy the trace as Markdown (y)">Copy Markdown</button>
      <button onClick=${() => copy("JSON")} title="Copy the trace as OTLP JSON, which \`otel-pipeline query import\` reads (Y)">Copy JSON</button></span>
    </header>
    <div class="split">
      <div class="left">
        ${stages.length > 0 && html`<${Stages} stages=${stages} trace=${trace} selected=${selected} select=${select} />`}
        <div class="bar">
          <input type="search" name="find" placeholder="Find a span (/)" value=${find} aria-label="Find a span" onInput=${(event) => setFind(event.target.value)}
            onKeyDown=${(event) => event.key === "Enter" && wanted && next(trace.all, matches)} />
          ${wanted && html`<span class="dim">${count(found)} of ${count(trace.all.length)}; Enter for the next</span>`}
          <span class="space"></span>
          <span class="legend"><i class="bar-critical"></i>critical path <i class="bar-error"></i>error</span>
          ${zoom ? html`<button onClick=${() => setZoom(null)} title="Z">Zoom out</button>` : html`<button onClick=${() => setZoom([selected.start, Math.max(selected.end, selected.start + 1)])} title="Zoom to the selected span (z)">Zoom in</button>`}
          <button onClick=${() => setFolded(folded.size ? new Set() : new Set(trace.all.filter((node) => node.parent && node.children.length).map((node) => node.id)))}>${folded.size ? "Unfold all" : "Fold"}</button>
        </div>
        <${Waterfall} rows=${shown} total=${trace.total} zoom=${zoom} services=${outline.services} folded=${folded} selected=${selected}
          matches=${wanted ? matches : null} onSelect=${select} onFold=${fold} onZoom=${(node) => setZoom([node.start, Math.max(node.end, node.start + 1)])} />
      </div>
      <${SpanPanel} key=${selected.id} trace=${id} node=${selected} select=${(span) => select(trace.nodes.get(span))} news=${news} />
    </div>
    ${copied && html`<${Dialog} title="Copy this" onClose=${() => setCopied(null)}><textarea readonly rows="24" cols="90">${copied}</textarea><//>`}`;
}

// The way to the run of the same pipeline before this one.
function Before({ run }) {
  const filter = `pipeline:"${run.pipeline.replace(/[\\"]/g, "\\$&")}"`;
  const before = useAnswer("runs", { filter, limit: 1, before: run.cursor }).data?.items[0];
  return before ? html`<a class="button" href=${address("compare", [before.trace_id, run.trace_id])} title="With the run of this pipeline before it">Compare</a>` : null;
}

function Stages({ stages, trace, selected, select }) {
  const critical = useMemo(() => {
    const sums = new Map();
    for (const node of trace.all) sums.set(node.name, (sums.get(node.name) ?? 0) + criticalTime(node));
    return sums;
  }, [trace]);
  const longest = Math.max(1, ...stages.map((stage) => stage.duration_ns));
  return html`<div class="above"><table class="list stages">
    <thead><tr><th>Stage</th><th class="right">Spans</th><th class="right">Success</th><th class="right">Error</th><th class="right">Dropped</th><th class="right">Skipped</th>
      <th class="right" title="Records by the time of the stage's spans">Rate</th><th class="right" title="Of all its spans">Time</th><th class="share"></th><th class="right" title="Of the time that the whole took">Critical path</th></tr></thead>
    <tbody>${stages.map((stage) => html`<tr key=${stage.name} data-at=${selected.name === stage.name} onClick=${() => select(trace.nodes.get(stage.span_id))}>
      <td class="name"><button class="plain" title=${stage.name}>${stageName(stage)}</button>${stage.errors > 0 && html` <span class="bad">${count(stage.errors)} failed</span>`}</td>
      <td class="right num dim">${count(stage.spans)}</td>
      ${["success", "error", "dropped", "skipped"].map((name) => html`<td class=${`right num n ${stage.records[name] ? name : "none"}`}>${stage.records[name] === undefined ? "–" : count(stage.records[name])}</td>`)}
      <td class="right num">${rate(handled(stage), stage.duration_ns)}</td>
      <td class="right num">${duration(stage.duration_ns)}</td>
      <td class="share"><i style=${{ width: `${(100 * stage.duration_ns) / longest}%` }}></i></td>
      <td class="right num">${critical.get(stage.name) ? `${((100 * critical.get(stage.name)) / trace.total).toFixed(0)} %` : "–"}</td>
    </tr>`)}</tbody></table></div>`;
}
