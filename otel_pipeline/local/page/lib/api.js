// Questions to the API, and the news that something has come.
import { useEffect, useRef, useState } from "/page/vendor/htm-preact.js";

export function url(path, query = {}) {
  const set = Object.entries(query).filter(([, value]) => value !== undefined && value !== "");
  return `/api/${path}${set.length ? `?${new URLSearchParams(set)}` : ""}`;
}

export async function ask(path, query, signal) {
  return read(url(path, query), signal);
}

async function read(address, signal) {
  let response;
  try {
    response = await fetch(address, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The backend does not answer: is `otel-pipeline ui` still running?");
  }
  if (response.ok) return response.json();
  const { error } = await response.json().catch(() => ({}));
  throw new Error(error || `The backend answered ${response.status}.`);
}

// The answer to a question: {data} or {error}, and {} until there is one. `again` asks once more
// when it changes; the old answer stands until the new one has come.
export function useAnswer(path, query, again = 0) {
  const key = path === null ? null : url(path, query);
  return useAsked(key, again, (signal) => read(key, signal));
}

// The same for whatever `load` asks. Only one question of a key is under way: news that come
// meanwhile ask once more when it has been answered, however slow the answers are.
export function useAsked(key, again, load) {
  const [state, setState] = useState({});
  const underway = useRef(null);
  useEffect(() => () => {
    underway.current?.control.abort();
    underway.current = null;
  }, [key]);
  useEffect(() => {
    if (key === null) return;
    if (underway.current) {
      underway.current.old = true;
      return;
    }
    const start = async () => {
      const mine = { control: new AbortController(), old: false };
      underway.current = mine;
      let found;
      try {
        const data = await load(mine.control.signal);
        found = () => ({ key, data });
      } catch (error) {
        found = (before) => ({ key, error, data: before.key === key ? before.data : undefined });
      }
      if (mine.control.signal.aborted) return;
      underway.current = null;
      setState(found);
      if (mine.old) start();
    };
    start();
  }, [key, again]);
  return state.key === key ? state : {};
}

// --- News

const GAP = 1000; // milliseconds between two looks, so that a busy pipeline does not busy the page
const listeners = new Set();
let news = { spans: 0, logs: 0, points: 0, state: "connecting" };
let shown = news;
let timer = null;
let told = 0;

function tell() {
  if (timer !== null || document.hidden) return;
  timer = setTimeout(() => {
    timer = null;
    told = Date.now();
    shown = news;
    for (const listener of listeners) listener(shown);
  }, Math.max(0, told + GAP - Date.now()));
}

export function listen() {
  const source = new EventSource("/api/events");
  source.onmessage = (event) => {
    news = { ...JSON.parse(event.data), state: "live" };
    tell();
  };
  source.onerror = () => {
    news = { ...news, state: "lost" };
    tell();
  };
  document.addEventListener("visibilitychange", tell);
}

export function useNews() {
  const [state, setState] = useState(shown);
  useEffect(() => {
    listeners.add(setState);
    setState(shown);
    return () => listeners.delete(setState);
  }, []);
  return state;
}
