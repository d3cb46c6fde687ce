// uPlot in this page's colours, with exemplars over it.
import { html, useEffect, useRef, useState } from "/page/vendor/htm-preact.js";
import { compact, number, time } from "/page/lib/format.js";
import { traceAddress } from "/page/lib/route.js";

const HEIGHT = 260;

// What a colour of the style sheet is now.
export function color(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

export const lineColor = (index) => color(`line${index % 8}`);

// Charts are drawn anew when the theme changes.
export function useTheme() {
  const [turns, setTurns] = useState(0);
  useEffect(() => {
    const turn = () => setTurns((old) => old + 1);
    const media = matchMedia("(prefers-color-scheme: dark)");
    window.addEventListener("theme", turn);
    media.addEventListener("change", turn);
    return () => {
      window.removeEventListener("theme", turn);
      media.removeEventListener("change", turn);
    };
  }, []);
  return turns;
}

// `data` as uPlot has it; `marks` are exemplars: {time, y, title, trace_id, span_id}; `y` is null
// where the exemplar's value is not on the chart's scale, and it stands at its foot.
export function Chart({ data, series, marks = [], draw, range, label = compact, splits, height = HEIGHT, unit = "" }) {
  const box = useRef(null);
  const theme = useTheme();
  const [over, setOver] = useState(null);
  useEffect(() => {
    const axis = { stroke: color("dim"), grid: { stroke: color("rule"), width: 1 }, ticks: { stroke: color("rule"), width: 1, size: 4 }, font: "11px system-ui" };
    const times = data[0];
    const lonely = times.length && times[0] === times[times.length - 1];
    const place = (plot) => {
      plot.over.querySelectorAll("a").forEach((old) => old.remove());
      for (const mark of marks) {
        const left = plot.valToPos(mark.time, "x");
        if (!(left >= -1 && left <= plot.over.clientWidth + 1)) continue;
        const top = mark.y === null ? plot.over.clientHeight - 5 : plot.valToPos(mark.y, "y");
        const link = document.createElement("a");
        link.className = "exemplar";
        link.href = traceAddress(mark.trace_id, mark.span_id ?? undefined);
        link.title = mark.title;
        link.setAttribute("aria-label", mark.title);
        link.style.left = `${left}px`;
        link.style.top = `${Math.max(5, Math.min(plot.over.clientHeight - 5, top))}px`;
        plot.over.append(link);
      }
    };
    const plot = new uPlot({
      width: box.current.clientWidth, height, legend: { show: false }, padding: [10, 28, 0, 0],
      cursor: { points: { size: 6 }, drag: { x: true, y: false } },
      scales: {
        x: { time: true, ...(lonely ? { range: [times[0] - 30, times[0] + 30] } : {}) },
        y: { range: range ?? ((_, low, high) => { const least = Math.min(0, low ?? 0); const most = Math.max(high ?? 0, least); return [least, most > least ? most * 1.05 : least + 1]; }) },
      },
      axes: [
        { ...axis, size: 26, values: (_, moments, __, ___, gap) => moments.map((moment) => (gap < 1 ? time(moment * 1000).slice(-12, -2) : time(moment * 1000, { millis: false }).slice(gap >= 60 ? -8 : -8, gap >= 60 ? -3 : undefined))) },
        { ...axis, size: 64, values: (_, values) => values.map((value) => (value === null ? "" : label(value))), ...(splits ? { splits } : {}) },
      ],
      series: [{}, ...series.map((one) => ({ label: one.label, stroke: one.color, width: 1.5, points: { show: times.length < 80, size: 5 }, spanGaps: true, show: !one.hidden }))],
      hooks: {
        ...(draw ? { drawAxes: [draw] } : {}),
        draw: [place],
        setCursor: [(now) => setOver(now.cursor.idx ?? null)],
      },
    }, data, box.current);
    const watch = new ResizeObserver(() => plot.setSize({ width: box.current.clientWidth, height }));
    watch.observe(box.current);
    return () => {
      watch.disconnect();
      plot.destroy();
    };
  }, [data, series, marks, draw, theme]);
  const shown = over !== null && data[0][over] !== undefined;
  return html`<div class="chart" ref=${box}></div>
    <p class="reading num">${shown ? html`<span class="dim">${time(data[0][over] * 1000)}</span>${series.slice(0, 8).map((one, index) => {
      const value = data[index + 1][over];
      return value != null && !one.hidden && html` <span><i class="swatch" style=${{ background: one.color }}></i>${number(value)}${unit && ` ${unit}`}</span>`;
    })}` : html`<span class="dim">drag to zoom, double-click to zoom out</span>`}</p>`;
}
