// Parts that several views share.
import { html, useEffect, useRef, useState } from "/page/vendor/htm-preact.js";
import { ago, count, text, time, webAddress } from "/page/lib/format.js";
import { useKeys } from "/page/lib/keys.js";

const FIELDS = {
  runs: [["pipeline:orders", "status:error", "dur>10s", "age<1h"], "service pipeline run trace status dur age"],
  traces: [["status:error", "dur>1s", "stage:load", 'attr.customer=42 "late order"'], "service pipeline stage run trace span name status dur age attr.KEY “words”"],
  logs: [["level>=warning", "pipeline:orders", "attr.reason=null_key", '"connection reset"'], "service pipeline stage run trace span level age attr.KEY “words”"],
  metrics: [["name:records_processed", "kind:histogram", "attr.status=error"], "service name kind unit attr.KEY"],
};

export function FilterBox({ kind, value = "", error, onChange, children }) {
  const box = useRef(null);
  const [draft, setDraft] = useState(value);
  useEffect(() => setDraft(value), [value]);
  useKeys({ "/": () => box.current.focus() });
  const apply = (event) => {
    event?.preventDefault();
    onChange(draft.trim());
  };
  const [examples, fields] = FIELDS[kind];
  return html`<div class="filter">
    <form onSubmit=${apply} role="search">
      <input ref=${box} type="text" name="filter" aria-label="Filter" spellcheck="false" autocomplete="off"
        class=${error ? "wrong" : ""} placeholder=${`Filter ${kind}, such as ${examples[0]}`} value=${draft}
        aria-invalid=${error ? "true" : "false"} onInput=${(event) => setDraft(event.target.value)} />
      ${draft !== value && html`<button type="submit" class="apply">Apply ↵</button>`}
      ${value && draft === value && html`<button type="button" onClick=${() => onChange("")} title="Clear the filter">Clear</button>`}
      ${children}
    </form>
    ${error && html`<p class="error" role="alert">${error.message}</p>`}
    <div class="hint" role="note">
      <span class="dim">fields</span> <code>${fields}</code> <span class="dim">for example</span>
      ${examples.map((one) => html`<button type="button" class="chip" onMouseDown=${(event) => { event.preventDefault(); onChange(one); }}>${one}</button>`)}
    </div>
  </div>`;
}

export const Empty = ({ title, children }) => html`<div class="empty"><h2>${title}</h2>${children}</div>`;

export const Failed = ({ error }) => html`<${Empty} title="This could not be read"><p role="alert">${error.message}</p><//>`;

export const Status = ({ of }) => html`<span class=${`status ${of}`}>${of}</span>`;

export const When = ({ iso }) => html`<time datetime=${iso} title=${`${iso} (${ago(iso)})`}>${time(iso)}</time>`;

export function Records({ of }) {
  const shown = Object.entries(of ?? {}).filter(([status, number]) => number || status === "success");
  return html`<span class="records">${shown.map(([status, number]) =>
    html`<span class=${`n ${status}`} title=${status}>${count(number ?? 0)}${status === "success" ? "" : html` <small>${status}</small>`}</span> `)}</span>`;
}

// A value as text; one that leads to the web is a link.
export function Value({ of }) {
  const address = webAddress(of);
  if (address) return html`<a href=${address} target="_blank" rel="noopener noreferrer nofollow">${of}</a>`;
  return html`<span class=${typeof of === "number" ? "num" : ""}>${text(of)}</span>`;
}

export function Attributes({ of, onPick }) {
  const entries = Object.entries(of ?? {});
  if (!entries.length) return html`<p class="dim">none</p>`;
  return html`<dl class="attributes">${entries.map(([key, value]) => html`
    <div key=${key}><dt>${key.split(/(?<=[._])/).map((part) => html`${part}<wbr />`)}</dt><dd><${Value} of=${value} />${onPick && html`<button class="pick" title="Filter by this value" onClick=${() => onPick(key, value)}>⊕</button>`}</dd></div>`)}</dl>`;
}

// The time, so that "5 s ago" does not stay.
export function useNow() {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 5000);
    return () => clearInterval(timer);
  }, []);
  return Math.max(now, Date.now());
}

// Let j, k and the arrows go through a list, Enter open what is chosen.
export function useList(length, open, more = {}) {
  const [at, setAt] = useState(-1);
  const move = (step) => setAt((old) => Math.max(0, Math.min(length - 1, old + step)));
  useEffect(() => {
    document.querySelector("[data-at='true']")?.scrollIntoView({ block: "nearest" });
  }, [at]);
  const own = Object.fromEntries(Object.entries(more).map(([key, action]) => [key, () => at >= 0 && at < length && action(at)]));
  useKeys({
    j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1),
    Enter: () => at >= 0 && at < length && open(at), ...own,
  });
  return at;
}

// A box over the page that Esc or a click beside it closes.
export function Dialog({ title, onClose, children }) {
  const box = useRef(null);
  useKeys({ only: true, Escape: onClose, "?": onClose });
  useEffect(() => {
    const before = document.activeElement;
    box.current.focus();
    return () => before?.focus?.();
  }, []);
  return html`<div class="veil" onClick=${(event) => event.target === event.currentTarget && onClose()}>
    <section class="dialog" role="dialog" aria-modal="true" aria-label=${title} tabindex="-1" ref=${box}>
      <header><h2>${title}</h2><button onClick=${onClose} aria-label="Close">✕</button></header>${children}
    </section></div>`;
}
