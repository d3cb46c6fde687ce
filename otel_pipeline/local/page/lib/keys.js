// Keys: views register theirs, one listener serves all.
import { useEffect, useRef } from "/page/vendor/htm-preact.js";

const layers = [];
let first = null; // the first key of two, as in `g r`
let forget = null;

export function listenToKeys() {
  window.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const names = first ? [`${first} ${event.key}`] : [event.key];
    clearTimeout(forget);
    first = null;
    for (const layer of [...layers].reverse()) {
      for (const name of names) {
        const action = layer.current[name];
        if (!action || (name === "Enter" && event.target.closest("a, button"))) continue;
        event.preventDefault();
        action(event);
        return;
      }
      if (layer.current.only) return;
    }
    if (layers.some((layer) => Object.keys(layer.current).some((name) => name.startsWith(`${event.key} `)))) {
      first = event.key;
      forget = setTimeout(() => {
        first = null;
      }, 1500);
    }
  });
}

// Answer to keys as long as the component is shown; `only: true` keeps them from what lies beneath.
export function useKeys(actions) {
  const layer = useRef(actions);
  layer.current = actions;
  useEffect(() => {
    layers.push(layer);
    return () => layers.splice(layers.indexOf(layer), 1);
  }, []);
}

export const KEYS = [
  ["Everywhere", [
    ["g r", "runs"], ["g t", "traces"], ["g l", "logs"], ["g m", "metrics"],
    ["/", "to the filter; Enter applies it, Esc leaves it"], ["t", "light, dark or the system's theme"], ["?", "this help"],
  ]],
  ["Lists", [["j k", "next and previous line, also with the arrows"], ["Enter", "open it"], ["x", "choose a run to compare; c compares"]]],
  ["A trace", [
    ["j k", "next and previous span, also with the arrows"], ["← →", "fold and unfold, or to the parent"],
    ["e", "next span with an error"], ["p", "next span on the critical path"], ["z Z", "zoom to the span, and out"],
    ["y", "copy as Markdown"], ["Y", "copy as JSON (OTLP)"],
  ]],
];
