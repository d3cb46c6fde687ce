// The waterfall: only the rows that can be seen are there.
import { html, useEffect, useLayoutEffect, useRef, useState } from "/page/vendor/htm-preact.js";
import { count, duration } from "/page/lib/format.js";

const ROW = 22; // pixels, as in app.css
const SPARE = 10; // rows beyond the edge
const MOST_PARTS = 200; // of the critical path in one row

export function Waterfall({ rows, total, zoom, services, folded, selected, matches, onSelect, onFold, onZoom }) {
  const box = useRef(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  const look = () => setView({ top: box.current.scrollTop, height: box.current.clientHeight });
  useLayoutEffect(() => {
    const watch = new ResizeObserver(look);
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  const at = rows.indexOf(selected);
  useEffect(() => {
    if (at < 0) return;
    const head = box.current.querySelector(".scale").clientHeight;
    const top = at * ROW;
    if (top < box.current.scrollTop) box.current.scrollTop = top - ROW;
    else if (top + ROW + head > box.current.scrollTop + box.current.clientHeight) box.current.scrollTop = top + 2 * ROW + head - box.current.clientHeight;
  }, [at, selected]);
  const [from, to] = zoom ?? [0, total];
  const place = (moment) => (100 * (moment - from)) / (to - from);
  const first = Math.max(0, Math.floor(view.top / ROW) - SPARE);
  const last = Math.min(rows.length, Math.ceil((view.top + view.height) / ROW) + SPARE);
  const colors = new Map([...new Set(Object.values(services))].map((name, index) => [name, index % 6]));
  return html`<div class="waterfall" ref=${box} onScroll=${look} role="tree" aria-label="Spans" aria-rowcount=${rows.length}>
    <div class="scale"><span></span><span class="ticks">${ticks(from, to).filter((moment) => place(moment) < 95).map((moment) => html`<i style=${{ left: `${place(moment)}%` }}>${duration(moment)}</i>`)}</span></div>
    <div class="rows" style=${{ height: `${rows.length * ROW}px` }}>
      ${rows.slice(first, last).map((node, index) => html`<${Row} key=${node.id} node=${node} top=${(first + index) * ROW} place=${place}
        color=${colors.get(services[node.resource]) ?? 0} service=${colors.size > 1 ? services[node.resource] : ""} folded=${folded.has(node.id)}
        selected=${node === selected} faint=${matches && !matches(node)} onSelect=${onSelect} onFold=${onFold} onZoom=${onZoom} />`)}
    </div>
  </div>`;
}

function Row({ node, top, place, color, service, folded, selected, faint, onSelect, onFold, onZoom }) {
  const left = Math.max(0, place(node.start));
  const right = Math.min(100, place(node.end));
  const seen = right >= 0 && left <= 100;
  const width = Math.max(0, right - left);
  const length = duration(node.duration);
  return html`<div class=${`row${selected ? " selected" : ""}${faint ? " faint" : ""}`} style=${{ transform: `translateY(${top}px)` }} role="treeitem"
    aria-selected=${selected} aria-level=${node.depth + 1} data-span=${node.id} onClick=${() => onSelect(node)} onDblClick=${() => onZoom(node)}>
    <span class="label" style=${{ paddingLeft: `${4 + Math.min(node.depth, 24) * 12}px` }}>
      ${node.children.length
        ? html`<button class="fold" aria-label=${folded ? "Unfold" : "Fold"} onClick=${(event) => { event.stopPropagation(); onFold(node); }}>${folded ? "▸" : "▾"}</button>`
        : html`<span class="fold"></span>`}
      <span class=${`words${node.error ? " bad" : ""}`} title=${node.name}>${node.name || "(no name)"}</span>
      ${folded && html`<small class="dim">${count(node.children.length)}</small>`}
      ${!node.error && folded && node.errors > 0 && html`<small class="bad">●</small>`}
      ${node.orphan && html`<small class="dim" title="Its parent has not come in">no parent</small>`}
      ${service && html`<small class="dim">${service}</small>`}
    </span>
    <span class="track">${seen && html`
      <i class=${`span c${color}${node.error ? " failed" : ""}`} style=${{ left: `${left}%`, width: `max(2px, ${width}%)` }}></i>
      ${node.critical.slice(0, MOST_PARTS).map(([from, to]) => {
        const begin = Math.max(0, place(from));
        const end = Math.min(100, place(to));
        return end > begin && html`<i class="critical" style=${{ left: `${begin}%`, width: `max(1px, ${end - begin}%)` }}></i>`;
      })}
      ${right < 88 ? html`<em style=${{ left: `calc(${right}% + 5px)` }}>${length}</em>`
        : left > 12 ? html`<em class="before" style=${{ right: `calc(${100 - left}% + 5px)` }}>${length}</em>`
        : html`<em class="inside" style=${{ right: `calc(${100 - right}% + 5px)` }}>${length}</em>`}`}</span>
  </div>`;
}

// Four to eight round moments.
function ticks(from, to) {
  const rough = (to - from) / 6;
  const power = 10 ** Math.floor(Math.log10(Math.max(rough, 1)));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough) ?? power;
  const found = [];
  for (let moment = Math.ceil(from / step) * step; moment < to && found.length < 12; moment += step) found.push(moment);
  return found;
}
