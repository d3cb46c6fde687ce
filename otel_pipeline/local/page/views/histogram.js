// A histogram: how its observations are spread, and how that changed.
import { html, useMemo } from "/page/vendor/htm-preact.js";
import { added, increments, quantile, together, withLayout } from "/page/lib/buckets.js";
import { Chart, color, lineColor, useTheme } from "/page/lib/chart.js";
import { compact, count, number } from "/page/lib/format.js";
import { change } from "/page/lib/route.js";
import { labelOf } from "/page/views/metrics.js";

const SHARES = [["p50", 0.5], ["p90", 0.9], ["p99", 0.99]];

export function Histogram({ list, unit, query, exemplars }) {
  const labels = [...new Set(list.map(labelOf))].sort();
  const label = labels.includes(query.series) ? query.series : undefined;
  const lines = query.of === "quantiles";
  const { edges, parts, total, sum } = useMemo(() => {
    const laid = withLayout(list.filter((series) => label === undefined || labelOf(series) === label));
    const found = together(laid.list.flatMap(increments));
    return { edges: laid.edges, parts: found, total: added(found, laid.edges.length + 1), sum: found.reduce((all, one) => all + one.sum, 0) };
  }, [list, label]);
  const chosen = useMemo(() => exemplars.filter((one) => label === undefined || one.label === label), [exemplars, label]);
  const observations = total.reduce((all, one) => all + one, 0);
  return html`
    <div class="bar">
      ${labels.length > 1 && html`<select aria-label="Series" value=${label ?? ""} onChange=${(event) => change({ series: event.target.value }, { quiet: true })}><option value="">all ${labels.length} series together</option>${labels.map((one) => html`<option value=${one}>${one}</option>`)}</select>`}
      <span class="choice"><button class=${lines ? "" : "on"} onClick=${() => change({ of: undefined }, { quiet: true })}>heat map</button><button class=${lines ? "on" : ""} onClick=${() => change({ of: "quantiles" }, { quiet: true })}>quantiles</button></span>
      ${chosen.length > 0 && html`<span class="legend"><i class="exemplar"></i>exemplar: click it for its trace</span>`}
    </div>
    ${lines ? html`<${Quantiles} parts=${parts} edges=${edges} exemplars=${chosen} unit=${unit} />` : html`<${HeatMap} parts=${parts} edges=${edges} exemplars=${chosen} unit=${unit} />`}
    <h3>All observations <span class="dim">${count(observations)} · mean ${observations ? number(sum / observations) : "–"} ${unit}${SHARES.map(([name, share]) => ` · ${name} ${edges.length ? compact(quantile(share, edges, total) ?? NaN) : "–"} ${unit}`)}</span></h3>
    <${Spread} edges=${edges} total=${total} unit=${unit} />`;
}

const nameOf = (edges, index) => (index < edges.length ? `≤ ${compact(edges[index])}` : edges.length ? `> ${compact(edges.at(-1))}` : "all");

function Spread({ edges, total, unit }) {
  const used = total.map((value, index) => [value, index]).filter(([value]) => value);
  if (!used.length) return html`<p class="dim">none</p>`;
  const low = Math.max(0, used[0][1] - 1);
  const high = Math.min(total.length - 1, used.at(-1)[1] + 1);
  const most = Math.max(...total);
  return html`<div class="spread">${total.slice(low, high + 1).map((value, index) => html`<div><span class="num dim">${nameOf(edges, low + index)} ${unit}</span><b><i style=${{ width: `${(100 * value) / most}%` }}></i></b><span class="num">${value ? count(value) : ""}</span></div>`)}</div>`;
}

function marksOf(exemplars, place, unit) {
  return exemplars.slice(0, 100).map((one) => ({ ...one, time: Date.parse(one.time) / 1000, y: typeof one.value === "number" ? place(one.value) : null, title: `${number(one.value)} ${unit} · open its trace` }));
}

function Quantiles({ parts, edges, exemplars, unit }) {
  const theme = useTheme();
  const { data, series, marks } = useMemo(() => {
    const busy = parts.filter((part) => part.count > 0);
    return {
      data: [busy.map((part) => part.time), ...SHARES.map(([, share]) => busy.map((part) => quantile(share, edges, part.counts)))],
      series: SHARES.map(([name], index) => ({ label: name, color: lineColor(index) })),
      marks: marksOf(exemplars, (value) => value, unit),
    };
  }, [parts, edges, exemplars, theme]);
  return html`<${Chart} data=${data} series=${series} marks=${marks} unit=${unit} />
    <p class="legend">${SHARES.map(([name], index) => html`<span><i class="swatch" style=${{ background: `var(--line${index})` }}></i>${name}</span> `)}</p>`;
}

// The buckets are rows of equal height, so that each can be seen; a cell is as strong as its share
// of the fullest one.
function HeatMap({ parts, edges, exemplars, unit }) {
  const theme = useTheme();
  const { data, marks, draw, range, label, splits } = useMemo(() => {
    const busy = parts.filter((part) => part.count > 0);
    const sums = added(busy, edges.length + 1);
    const low = Math.max(0, sums.findIndex(Boolean) - 1);
    const high = Math.min(edges.length, sums.findLastIndex(Boolean) + 1);
    const size = Math.max(1, high - low + 1);
    const times = [...new Set(busy.map((part) => part.time))];
    const from = times[0] ?? 0;
    const to = times.at(-1) ?? 0;
    const bins = Math.min(60, Math.max(1, times.length));
    const width = to > from ? (to - from) / bins : 1;
    const cells = new Map();
    for (const part of busy) {
      const bin = Math.min(bins - 1, Math.floor((part.time - from) / width));
      part.counts.forEach((value, index) => {
        if (value) cells.set(`${bin} ${index}`, (cells.get(`${bin} ${index}`) ?? 0) + value);
      });
    }
    const most = Math.max(1, ...cells.values());
    const ink = color("heat");
    return {
      data: [to > from ? times : [from - 0.5, from + 0.5], (to > from ? times : [0, 0]).map(() => null)],
      marks: marksOf(exemplars, (value) => { const index = edges.findIndex((edge) => value <= edge); return (index < 0 ? edges.length : index) - low + 0.5; }, unit),
      range: () => [0, size],
      splits: () => Array.from({ length: size }, (_, index) => index + 0.5).filter((_, index) => size <= 14 || index % Math.ceil(size / 14) === 0),
      label: (value) => nameOf(edges, low + Math.floor(value)),
      draw: (plot) => {
        const { ctx } = plot;
        ctx.save();
        ctx.beginPath();
        ctx.rect(plot.bbox.left, plot.bbox.top, plot.bbox.width, plot.bbox.height);
        ctx.clip();
        ctx.fillStyle = ink;
        for (const [key, value] of cells) {
          const [bin, index] = key.split(" ").map(Number);
          const start = to > from ? from + bin * width : from - 0.5;
          const left = plot.valToPos(start, "x", true);
          const right = plot.valToPos(start + width, "x", true);
          const top = plot.valToPos(index - low + 1, "y", true);
          const foot = plot.valToPos(index - low, "y", true);
          ctx.globalAlpha = 0.12 + 0.88 * Math.sqrt(value / most);
          ctx.fillRect(left, top + 0.5, Math.max(2, right - left - 0.5), foot - top - 1);
        }
        ctx.restore();
      },
    };
  }, [parts, edges, exemplars, theme]);
  const series = useMemo(() => [{ label: "", color: "transparent" }], []);
  return html`<${Chart} data=${data} series=${series} marks=${marks} draw=${draw} range=${range} label=${label} splits=${splits} />`;
}
