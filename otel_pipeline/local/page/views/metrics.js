// Metrics: their names, and a chart of the one that is selected.
import { html, useMemo, useState } from "/page/vendor/htm-preact.js";
import { ask, useAnswer, useAsked } from "/page/lib/api.js";
import { Chart, lineColor, useTheme } from "/page/lib/chart.js";
import { count, number } from "/page/lib/format.js";
import { address, change, go, traceAddress } from "/page/lib/route.js";
import { Empty, Failed, FilterBox, When, useList } from "/page/views/parts.js";
import { Histogram } from "/page/views/histogram.js";

const MOST_SERIES = 40; // in one chart
const POINTS = 500;

export const labelOf = (series) => Object.entries(series.attributes).map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`).join(", ") || "all";

const unitOf = (unit) => (unit === "1" || unit?.startsWith("{") ? "" : (unit ?? ""));

export function Metrics({ query, news }) {
  const { data, error } = useAnswer("metrics", { filter: query.filter, limit: 1000 }, news.points);
  const names = useMemo(() => {
    const found = new Map();
    for (const series of data?.items ?? []) {
      const metric = found.get(series.name) ?? { name: series.name, kind: series.kind, unit: series.unit, series: [] };
      metric.series.push(series);
      found.set(series.name, metric);
    }
    return [...found.values()].sort((one, other) => (one.name < other.name ? -1 : 1));
  }, [data]);
  const metric = names.find((one) => one.name === query.name) ?? names.find((one) => one.name === "records_processed") ?? names[0];
  const open = (index) => go(address("metrics", [], { ...query, name: names[index].name, of: undefined }), { quiet: true });
  const at = useList(names.length, open);
  return html`
    <${FilterBox} kind="metrics" value=${query.filter} error=${error} onChange=${(filter) => change({ filter })} />
    ${error && !query.filter && html`<${Failed} error=${error} />`}
    ${data && !names.length && (query.filter
      ? html`<${Empty} title="No series matches this filter"><p><button onClick=${() => change({ filter: "" })}>Clear the filter</button></p><//>`
      : html`<${Empty} title="No metric yet"><p>Metrics come by OTLP. <code>OTEL_PIPELINE_LOCAL=1</code> sends them here as well as to <code>/metrics</code>:</p><pre>OTEL_PIPELINE_LOCAL=1 python orders.py</pre><//>`)}
    ${metric && html`<div class="split metrics">
      <nav class="names" aria-label="Metrics">${names.map((one, index) => html`<a key=${one.name} href=${address("metrics", [], { ...query, name: one.name, of: undefined })}
        data-at=${index === at} aria-current=${one === metric ? "true" : null}><span class="name">${one.name}</span><small class="dim">${one.kind === "exponential_histogram" ? "histogram" : one.kind}${one.series.length > 1 ? ` · ${count(one.series.length)}` : ""}</small></a>`)}
        ${data.next && html`<p class="dim">The first 1,000 series are shown: narrow them down with a filter.</p>`}</nav>
      <${Metric} key=${metric.name} metric=${metric} query=${query} again=${news.points} />
    </div>`}`;
}

// The series of a metric with their points, the ones with the newest first.
function useSeries(metric, again) {
  const chosen = [...metric.series].sort((one, other) => ((one.time ?? "") < (other.time ?? "") ? 1 : -1)).slice(0, MOST_SERIES);
  const key = chosen.map((series) => series.series).join();
  const { data, error } = useAsked(key, again, (signal) =>
    Promise.all(chosen.map((series) => ask(`metrics/${series.series}`, { limit: POINTS }, signal))));
  const list = useMemo(() => (data ?? []).filter((series) => series.items.length), [data]);
  return { list, error, left: metric.series.length - chosen.length };
}

function Metric({ metric, query, again }) {
  const { list, error, left } = useSeries(metric, again);
  const unit = unitOf(metric.unit);
  const first = list[0];
  const exemplars = useMemo(() => list.flatMap((series) => series.exemplars.map((one) => ({ ...one, label: labelOf(series) })))
    .filter((one) => /[1-9a-f]/.test(one.trace_id ?? "")).sort((one, other) => (one.time < other.time ? 1 : -1)), [list]);
  const histogram = metric.kind === "histogram" || metric.kind === "exponential_histogram";
  return html`<section class="metric">
    <header class="title"><h1>${metric.name}</h1><span class="dim">${metric.kind.replace("_", " ")}${unit ? ` in ${unit}` : ""}</span></header>
    ${first?.description && html`<p class="about">${first.description}</p>`}
    ${error && html`<p class="error">${error.message}</p>`}
    ${left > 0 && html`<p class="dim">The ${MOST_SERIES} newest series are drawn, ${count(left)} are not: narrow them down with a filter such as <code>attr.pipeline=orders</code>.</p>`}
    ${list.length > 0 && (histogram ? html`<${Histogram} list=${list} unit=${unit} query=${query} exemplars=${exemplars} />` : html`<${Lines} list=${list} unit=${unit} query=${query} exemplars=${exemplars} />`)}
    ${exemplars.length > 0 && html`<h3>Exemplars <span class="dim">${count(exemplars.length)}: single observations with their traces</span></h3>
      <table class="list exemplars"><thead><tr><th>Time</th><th class="right">Value</th><th>Series</th><th>Trace</th></tr></thead><tbody>${exemplars.slice(0, 20).map((one) => html`<tr>
        <td><${When} iso=${one.time} /></td><td class="right num">${number(one.value)} ${unit}</td><td class="dim">${one.label}</td>
        <td><a class="mono" href=${traceAddress(one.trace_id, one.span_id ?? undefined)}>${one.trace_id}</a></td></tr>`)}</tbody></table>`}
  </section>`;
}

const valueOf = (value) => (typeof value === "number" ? value : null);

function Lines({ list, unit, query, exemplars }) {
  const theme = useTheme();
  const summary = list[0].kind === "summary";
  const counter = list[0].kind === "sum" && list[0].monotonic;
  const rates = counter && query.of === "rate";
  const [alone, setAlone] = useState(null);
  const labels = useMemo(() => [...new Set(list.map(labelOf))].sort(), [list]);
  const { data, series, marks } = useMemo(() => {
    const tables = [];
    const lines = [];
    for (const one of list) {
      const label = labelOf(one);
      const times = one.items.map((point) => Date.parse(point.time) / 1000);
      const lists = summary
        ? (one.items.at(-1).quantiles ?? []).map(([share], index) => [`p${Number(share) * 100}`, one.items.map((point) => valueOf(point.quantiles[index]?.[1]))])
        : [["", values(one, rates)]];
      for (const [name, list_] of lists) {
        tables.push([times, list_]);
        lines.push({ label: name ? `${label} ${name}` : label, color: lineColor(labels.indexOf(label)), hidden: alone !== null && alone !== label });
      }
    }
    return {
      data: tables.length ? uPlot.join(tables) : [[]],
      series: lines,
      marks: exemplars.slice(0, 100).map((one) => ({ ...one, time: Date.parse(one.time) / 1000, y: counter ? null : valueOf(one.value), title: `${number(one.value)} ${unit} · open its trace`.replace("  ", " ") })),
    };
  }, [list, rates, alone, exemplars, theme]);
  const newest = new Map();
  for (const one of list) {
    const last = one.items.at(-1);
    const value = summary ? last.count : last.value;
    const label = labelOf(one);
    if (counter && typeof value === "number") newest.set(label, (newest.get(label) ?? 0) + value);
    else if (!newest.has(label)) newest.set(label, value);
  }
  return html`
    <div class="bar">${counter && html`<span class="choice"><button class=${rates ? "" : "on"} onClick=${() => change({ of: undefined }, { quiet: true })}>total</button><button class=${rates ? "on" : ""} onClick=${() => change({ of: "rate" }, { quiet: true })}>per second</button></span>`}
      ${exemplars.length > 0 && html`<span class="legend"><i class="exemplar"></i>exemplar: click it for its trace</span>`}</div>
    <${Chart} data=${data} series=${series} marks=${marks} unit=${rates ? `${unit}/s` : unit} />
    <table class="list series"><thead><tr><th>Series</th><th class="right">${counter ? "Total" : summary ? "Count" : "Newest"}</th></tr></thead><tbody>${labels.map((label, index) => html`<tr class=${alone !== null && alone !== label ? "faint" : ""} onClick=${() => setAlone(alone === label ? null : label)} title="Show it alone, or all again">
      <td><button class="plain"><i class="swatch" style=${{ background: `var(--line${index % 8})` }}></i>${label}</button></td>
      <td class="right num">${number(newest.get(label))} ${unit}</td></tr>`)}</tbody></table>`;
}

// A series' values for the chart: as they are, added up (delta), or by the second.
function values(series, rates) {
  const delta = series.temporality === "delta";
  let sum = 0;
  if (!rates) {
    if (!delta || !series.monotonic) return series.items.map((point) => valueOf(point.value));
    return series.items.map((point) => { sum += valueOf(point.value) ?? 0; return sum; });
  }
  let before = null;
  return series.items.map((point) => {
    const now = Date.parse(point.time);
    const since = before ? before.now : Date.parse(point.start ?? point.time);
    const value = valueOf(point.value) ?? 0;
    const grown = delta || !before || value < before.value ? value : value - before.value;
    before = { now, value };
    return now > since ? grown / ((now - since) / 1000) : null;
  });
}
