// The state of the page is in its address: #/view/argument?name=value.
import { useEffect, useState } from "/page/vendor/htm-preact.js";

export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [view = "", ...rest] = path.split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { view: view || "runs", words: rest, query: Object.fromEntries(new URLSearchParams(query)) };
}

export function address(view, words = [], query = {}) {
  const set = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const path = [view, ...words].map(encodeURIComponent).join("/");
  return `#/${path}${set.length ? `?${new URLSearchParams(set)}` : ""}`;
}

// Go on with another state. `quiet` makes no step in the browser's history, for what changes often.
export function go(to, { quiet = false } = {}) {
  if (to === location.hash) return;
  history[quiet ? "replaceState" : "pushState"](null, "", to);
  window.dispatchEvent(new Event("route"));
}

export function change(query, options) {
  const now = parse(location.hash);
  go(address(now.view, now.words, { ...now.query, ...query }), options);
}

export function useRoute() {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const read = () => setHash(location.hash);
    const events = ["hashchange", "popstate", "route"];
    for (const name of events) window.addEventListener(name, read);
    return () => {
      for (const name of events) window.removeEventListener(name, read);
    };
  }, []);
  return parse(hash);
}

export const traceAddress = (trace, span) => address("trace", [trace], { span });
