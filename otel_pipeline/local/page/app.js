// The page's frame: which view is shown, and what holds in all of them.
import { html, render, useEffect, useState } from "/page/vendor/htm-preact.js";
import { listen, useNews } from "/page/lib/api.js";
import { KEYS, listenToKeys, useKeys } from "/page/lib/keys.js";
import { address, go, useRoute } from "/page/lib/route.js";
import { Compare } from "/page/views/compare.js";
import { Logs } from "/page/views/logs.js";
import { Metrics } from "/page/views/metrics.js";
import { Dialog, Empty } from "/page/views/parts.js";
import { Runs, Traces } from "/page/views/runs.js";
import { Trace } from "/page/views/trace.js";

const TABS = [["runs", "Runs"], ["traces", "Traces"], ["logs", "Logs"], ["metrics", "Metrics"]];
const VIEWS = { runs: Runs, traces: Traces, logs: Logs, metrics: Metrics, trace: Trace, compare: Compare };
const BELONGS = { trace: "traces", compare: "runs" };
const STATES = { live: "live: what comes in is shown at once", lost: "no answer from the backend; trying again", connecting: "connecting" };
const THEMES = { "": "system", light: "light", dark: "dark" };

function useTheme() {
  const [theme, setTheme] = useState(document.documentElement.dataset.theme ?? "");
  const turn = () => {
    const names = Object.keys(THEMES);
    const next = names[(names.indexOf(theme) + 1) % names.length];
    if (next) document.documentElement.dataset.theme = next;
    else delete document.documentElement.dataset.theme;
    try {
      localStorage.setItem("theme", next);
    } catch {
      // it holds until the page is closed
    }
    window.dispatchEvent(new Event("theme"));
    setTheme(next);
  };
  return [THEMES[theme], turn];
}

function Help({ onClose }) {
  return html`<${Dialog} title="Keys" onClose=${onClose}><div class="keys">${KEYS.map(([title, keys]) => html`
    <div><h3>${title}</h3><dl>${keys.map(([key, what]) => html`<dt>${key.split(" ").map((one) => html`<kbd>${one}</kbd>`)}</dt><dd>${what}</dd>`)}</dl></div>`)}</div><//>`;
}

function App() {
  const route = useRoute();
  const news = useNews();
  const [theme, turnTheme] = useTheme();
  const [help, setHelp] = useState(false);
  const to = (view) => () => go(address(view));
  useKeys({ "g r": to("runs"), "g t": to("traces"), "g l": to("logs"), "g m": to("metrics"), t: turnTheme, "?": () => setHelp(true) });
  const View = VIEWS[route.view];
  useEffect(() => {
    document.title = `${TABS.find(([name]) => name === route.view)?.[1] ?? route.view} · otel-pipeline`;
  }, [route.view]);
  return html`
    <header class="top">
      <a class="home" href="#/runs">otel-pipeline</a>
      <nav>${TABS.map(([name, label]) => html`<a href=${address(name)} aria-current=${name === (BELONGS[route.view] ?? route.view) ? "page" : null}>${label}</a>`)}</nav>
      <span class="space"></span>
      <span class=${`news ${news.state}`} title=${STATES[news.state]} role="status">${news.state}</span>
      <button onClick=${turnTheme} title="Light, dark or the system's theme (t)">theme: ${theme}</button>
      <button onClick=${() => setHelp(true)} title="Keys (?)" aria-label="Keys">?</button>
    </header>
    <main class=${route.view}>${View
      ? html`<${View} key=${route.view + route.words.join()} words=${route.words} query=${route.query} news=${news} />`
      : html`<${Empty} title="There is no such view"><p>Go to the <a href="#/runs">runs</a>.</p><//>`}</main>
    ${help && html`<${Help} onClose=${() => setHelp(false)} />`}`;
}

listen();
listenToKeys();
render(html`<${App} />`, document.body);
