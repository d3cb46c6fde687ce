// Numbers, times and values as text.

const WHOLE = new Intl.NumberFormat("en");
const THREE = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

export const count = (number) => WHOLE.format(number);

export function number(value) {
  if (typeof value !== "number") return value == null ? "–" : String(value);
  if (Number.isInteger(value)) return WHOLE.format(value);
  const size = Math.abs(value);
  return size >= 1e-4 && size < 1e15 ? WHOLE.format(Number(value.toPrecision(6))) : value.toExponential(3);
}

export const compact = (value) =>
  Math.abs(value) >= 1e4 ? COMPACT.format(value) : Math.abs(value) < 1e-3 && value ? value.toExponential(1) : THREE.format(value);

export function duration(nanoseconds) {
  if (nanoseconds == null) return "–";
  if (nanoseconds < 1e3) return `${nanoseconds} ns`;
  if (nanoseconds < 1e6) return `${THREE.format(nanoseconds / 1e3)} µs`;
  if (nanoseconds < 1e9) return `${THREE.format(nanoseconds / 1e6)} ms`;
  const seconds = nanoseconds / 1e9;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${pad(whole % 60)} s`;
  return `${count(Math.floor(whole / 3600))} h ${pad(Math.floor(whole / 60) % 60)} m`;
}

const pad = (value) => String(value).padStart(2, "0");

export function rate(records, nanoseconds) {
  if (!records || !nanoseconds) return "–";
  return `${compact(records / (nanoseconds / 1e9))}/s`;
}

// The time of day here, with the date where it is another day; titles have the whole of it in UTC.
export function time(iso, { millis = true } = {}) {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return String(iso);
  const clock = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
  const text = millis ? `${clock}.${String(date.getMilliseconds()).padStart(3, "0")}` : clock;
  if (date.toDateString() === new Date().toDateString()) return text;
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${text}`;
}

export function ago(iso, now = Date.now()) {
  const seconds = Math.max(0, (now - Date.parse(iso)) / 1000);
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

export const text = (value) =>
  typeof value === "string" ? value : value === undefined ? "" : JSON.stringify(value);

export function bytes(size) {
  if (size < 1024) return `${size} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let unit = -1;
  let left = size;
  do {
    left /= 1024;
    unit += 1;
  } while (left >= 1024 && unit < units.length - 1);
  return `${THREE.format(left)} ${units[unit]}`;
}

// A value in a filter: quoted where it would not be read as one word.
export function quoted(value) {
  const plain = String(value);
  return /^[^\s"\\=<>!:][^\s"]*$/.test(plain) ? plain : `"${plain.replace(/[\\"]/g, "\\$&")}"`;
}

// The address of a link if it leads to the web; anything else (javascript:, data:) is only text.
export function webAddress(value) {
  if (typeof value !== "string" || !/^https?:\/\/\S+$/i.test(value)) return null;
  try {
    const address = new URL(value);
    return address.protocol === "http:" || address.protocol === "https:" ? address.href : null;
  } catch {
    return null;
  }
}

export const signed = (ratio) =>
  !Number.isFinite(ratio) ? "–" : `${ratio > 0 ? "+" : ratio < 0 ? "−" : "±"}${Math.abs(ratio * 100).toFixed(Math.abs(ratio) < 0.1 ? 1 : 0)} %`;
