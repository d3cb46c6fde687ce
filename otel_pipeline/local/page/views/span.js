// Everything about the selected span, and its log lines.
import { html, useState } from "/page/vendor/htm-preact.js";
import { useAnswer } from "/page/lib/api.js";
import { count, duration, text } from "/page/lib/format.js";
import { address, traceAddress } from "/page/lib/route.js";
import { criticalTime } from "/page/lib/model.js";
import { Attributes, Status } from "/page/views/parts.js";
import { LogLine } from "/page/views/logs.js";

const MOST_LINES = 200;

export function SpanPanel({ trace, node, select, news }) {
  const about = useAnswer(`traces/${trace}/spans/${node.id}`, {});
  const span = about.data?.items[0];
  const critical = criticalTime(node);
  return html`<aside class="panel" aria-label="The selected span">
    <h2>${node.name || "(no name)"}</h2>
    <p class="facts"><b>${duration(node.duration)}</b> <span class="dim">from ${duration(node.start)}</span>
      ${critical > 0 && html` <span class="dim">· ${duration(critical)} on the critical path</span>`}
      ${span?.kind && span.kind !== "internal" && html` <span class="dim">· ${span.kind}</span>`}
      ${node.status !== "unset" && html` <${Status} of=${node.status} />`}</p>
    ${about.error && html`<p class="error">${about.error.message}</p>`}
    ${span?.status_message && html`<p class="error">${span.status_message}</p>`}
    ${span && html`<${Events} events=${span.events} />`}
    <${Lines} trace=${trace} node=${node} news=${news} />
    ${span?.links.length > 0 && html`<h3>Links</h3><ul class="links">${span.links.map((link) => html`<li>
      <a href=${traceAddress(link.trace_id, link.span_id)} onClick=${(event) => link.trace_id === trace && (event.preventDefault(), select(link.span_id))}>
        ${link.trace_id === trace ? "a span of this trace" : "another trace"} <span class="mono">${link.trace_id.slice(0, 8)}…</span></a>
      ${Object.keys(link.attributes).length > 0 && html`<${Attributes} of=${link.attributes} />`}</li>`)}</ul>`}
    ${span && html`<h3>Attributes</h3><${Attributes} of=${span.attributes} />
      <details><summary>Resource <span class="dim">${span.service}</span></summary><${Attributes} of=${span.resource} /></details>
      <details><summary>Ids</summary><${Attributes} of=${{ trace_id: span.trace_id, span_id: span.span_id, parent_span_id: span.parent_span_id ?? "–", start: span.start, end: span.end, scope: span.scope }} /></details>`}
  </aside>`;
}

function Events({ events }) {
  if (!events.length) return null;
  return html`<h3>Events</h3>${events.map((event) => {
    const { "exception.type": type, "exception.message": message, "exception.stacktrace": stack, ...rest } = event.attributes;
    return html`<div class=${`event${event.name === "exception" ? " exception" : ""}`}>
      <p><b>${type ? text(type) : event.name}</b>${message !== undefined ? `: ${text(message)}` : ""} <span class="dim">at ${duration(event.offset_ns)}</span></p>
      ${stack !== undefined && html`<details open=${text(stack).length < 600}><summary>Stack</summary><pre>${text(stack)}</pre></details>`}
      ${Object.keys(rest).length > 0 && html`<${Attributes} of=${rest} />`}</div>`;
  })}`;
}

// The log lines of the span, the oldest first; or of all that is below it, too.
function Lines({ trace, node, news }) {
  const [whole, setWhole] = useState(false);
  const [opened, setOpened] = useState(null);
  const filter = whole ? `trace:${trace}` : `trace:${trace} span:${node.id}`;
  const { data, error } = useAnswer("logs", { filter, limit: MOST_LINES }, news.logs);
  const items = [...(data?.items ?? [])].reverse();
  const more = data && data.next !== null;
  return html`<h3>Log lines <span class="dim">${data ? count(items.length) + (more ? "+" : "") : ""}</span>
      <span class="choice"><button class=${whole ? "" : "on"} aria-pressed=${!whole} onClick=${() => setWhole(false)}>this span</button><button class=${whole ? "on" : ""} aria-pressed=${whole} onClick=${() => setWhole(true)}>whole trace</button></span></h3>
    ${error && html`<p class="error">${error.message}</p>`}
    ${more && html`<p><a href=${address("logs", [], { filter })}>The newest ${MOST_LINES} are shown; see all</a></p>`}
    ${data && !items.length ? html`<p class="dim">${whole ? "No line was logged in this trace." : "Nothing was logged in this span itself; look at the whole trace."}</p>`
      : html`<ol class="lines small">${items.map((line) => html`<${LogLine} key=${line.id} line=${line} span=${whole} open=${opened === line.id} onOpen=${() => setOpened(opened === line.id ? null : line.id)} />`)}</ol>`}`;
}
