// Log lines: search, filter, and what comes in.
import { html, useEffect, useRef, useState } from "/page/vendor/htm-preact.js";
import { ask } from "/page/lib/api.js";
import { count, quoted, text } from "/page/lib/format.js";
import { address, change, go, traceAddress } from "/page/lib/route.js";
import { Attributes, Empty, Failed, FilterBox, When, useList } from "/page/views/parts.js";

const PAGE = 200;
const MOST = 5000; // lines that are kept on the page
// They stand beside the line already.
const BESIDE = new Set(["service", "level", "logger", "pipeline", "run_id", "trace_id", "span_id", "trace_flags", "stage", "environment"]);
const FIELD = { service: "service", pipeline: "pipeline", stage: "stage", run_id: "run" };

export function LogLine({ line, open, at, onOpen, onPick, span = true }) {
  const rest = Object.entries(line.attributes ?? {}).filter(([key]) => !BESIDE.has(key));
  const { pipeline, stage } = line.attributes ?? {};
  return html`<li class=${`line ${line.level ?? ""}`} data-at=${at}>
    <div class="one" onClick=${(event) => event.target.closest("a") || onOpen()}>
      <${When} iso=${line.time} />
      <span class="level">${line.level ?? "–"}</span>
      ${span && html`<span class="from" title=${`${line.service ?? ""} ${text(pipeline)} ${text(stage)}`}>${text(pipeline) || line.service}${stage ? html` <b>${text(stage)}</b>` : ""}</span>`}
      <span class="body">${text(line.body)}${rest.map(([key, value]) => html` <span class="pair"><i>${key}=</i>${text(value)}</span>`)}</span>
      ${span && line.trace_id && html`<a class="to" href=${traceAddress(line.trace_id, line.span_id ?? undefined)} title="The span of this line">span</a>`}
    </div>
    ${open && html`<div class="opened"><p class="whole">${text(line.body)}</p><${Attributes} of=${line.attributes} onPick=${onPick} />
      ${line.trace_id && html`<p class="dim">trace <a class="mono" href=${traceAddress(line.trace_id)}>${line.trace_id}</a>
        ${line.span_id && html` span <a class="mono" href=${traceAddress(line.trace_id, line.span_id)}>${line.span_id}</a>`}</p>`}</div>`}
  </li>`;
}

export function Logs({ query, news }) {
  const filter = query.filter ?? "";
  const [state, setState] = useState({ items: [], waiting: [], next: null, last: 0, asked: null });
  const [opened, setOpened] = useState(null);
  const [tail, setTail] = useState(true);
  const box = useRef(null);
  const busy = useRef(false);
  const missed = useRef(false); // news that came while an answer was under way
  const [nudge, setNudge] = useState(0);

  useEffect(() => {
    let current = true;
    setOpened(null);
    (async () => {
      try {
        const page = await ask("logs", { filter, limit: PAGE });
        const last = Math.max(0, ...page.items.map((line) => line.id));
        if (current) setState({ items: page.items, waiting: [], next: page.next, last, asked: filter });
      } catch (error) {
        if (current) setState({ items: [], waiting: [], next: null, last: 0, asked: filter, error });
      }
    })();
    return () => {
      current = false;
    };
  }, [filter]);

  // What came since: on top, or kept back while the reader is further down.
  useEffect(() => {
    if (!tail || state.asked !== filter || state.error) return;
    missed.current = busy.current;
    if (busy.current) return;
    busy.current = true;
    ask("logs", { filter, after: state.last, limit: 1000 })
      .then((page) => {
        const fresh = [...page.items].reverse();
        setState((old) => {
          if (old.asked !== filter) return old;
          const away = (box.current?.scrollTop ?? 0) > 20;
          const waiting = [...fresh, ...old.waiting].slice(0, MOST);
          return away
            ? { ...old, waiting, last: page.last }
            : { ...old, items: [...waiting, ...old.items].slice(0, MOST), waiting: [], last: page.last };
        });
      })
      .catch(() => {}) // the next news asks again
      .finally(() => {
        busy.current = false;
        if (missed.current) setNudge((old) => old + 1);
      });
  }, [news.logs, tail, state.asked, nudge]);

  const older = async () => {
    const page = await ask("logs", { filter, limit: PAGE, before: state.next });
    setState((old) => ({ ...old, items: [...old.items, ...page.items], next: page.next }));
  };
  const top = () => {
    box.current.scrollTop = 0;
    setState((old) => ({ ...old, items: [...old.waiting, ...old.items].slice(0, MOST), waiting: [] }));
  };
  const pick = (key, value) => change({ filter: `${filter} ${FIELD[key] ?? `attr.${key}`}=${quoted(text(value))}`.trim() });
  const level = (name) => change({ filter: [filter.replace(/\s*\blevel\S+/g, ""), name && `level>=${name}`].filter(Boolean).join(" ").trim() });
  const { items, waiting, error } = state;
  const at = useList(items.length, (index) => setOpened(opened === items[index].id ? null : items[index].id), {
    s: (index) => items[index].trace_id && go(traceAddress(items[index].trace_id, items[index].span_id ?? undefined)),
  });
  return html`
    <${FilterBox} kind="logs" value=${filter} error=${error} onChange=${(value) => change({ filter: value })}>
      <select aria-label="Lowest level" value=${/level>=(\w+)/.exec(filter)?.[1] ?? ""} onChange=${(event) => level(event.target.value)}>
        <option value="">all levels</option>${["debug", "info", "warning", "error", "critical"].map((name) => html`<option value=${name}>≥ ${name}</option>`)}
      </select>
      <button type="button" class=${tail ? "on" : ""} aria-pressed=${tail} onClick=${() => setTail(!tail)} title="Show new lines as they come">${tail ? "● live" : "○ live"}</button>
    <//>
    ${error && !filter && html`<${Failed} error=${error} />`}
    ${state.asked === filter && !error && !items.length && html`<${Empty} title=${filter ? "No line matches this filter" : "No log line yet"}>
      ${filter ? html`<p>Words are found as whole words. <button onClick=${() => change({ filter: "" })}>Clear the filter</button></p>`
        : html`<p>Lines of <code>get_logger()</code>, and of the standard <code>logging</code>, come here with their spans:</p><pre>OTEL_PIPELINE_LOCAL=1 python orders.py</pre>`}<//>`}
    ${items.length > 0 && html`<div class="lines" ref=${box}>
      ${waiting.length > 0 && html`<button class="fresh" onClick=${top}>${count(waiting.length)} new ${waiting.length === 1 ? "line" : "lines"} ↑</button>`}
      <ol>${items.map((line, index) => html`<${LogLine} key=${line.id} line=${line} at=${index === at} open=${opened === line.id}
        onOpen=${() => setOpened(opened === line.id ? null : line.id)} onPick=${pick} />`)}</ol>
      ${state.next && html`<p class="more"><button onClick=${older}>Show older</button></p>`}
    </div>`}`;
}

export const logsOf = (filter) => address("logs", [], { filter });
