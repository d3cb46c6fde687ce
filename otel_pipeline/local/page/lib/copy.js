// A trace as Markdown, and what is copied.
import { count, duration, rate } from "/page/lib/format.js";

const MOST_SPANS = 200;

const cell = (value) => String(value).replace(/[\r\n]+/g, " ").replace(/\|/g, "\\|");

export function markdown({ trace, outline, stages, run }) {
  const { all, roots } = trace;
  const lines = [`# ${cell(roots[0]?.name ?? "Trace")}`, ""];
  if (run) lines.push(`Run \`${run.run_id}\` of pipeline ${run.pipeline}: **${run.status}**`, "");
  lines.push(
    `- trace \`${outline.trace_id}\``,
    `- started ${outline.start}, took ${duration(outline.duration_ns)}`,
    `- ${count(all.length)} spans, ${count(all.filter((node) => node.error).length)} with an error`,
    "",
  );
  if (stages.length) {
    lines.push("| stage | spans | success | error | dropped | skipped | time | rate |", "|---|--:|--:|--:|--:|--:|--:|--:|");
    for (const stage of stages) {
      const of = (name) => count(stage.records[name] ?? 0);
      lines.push(`| ${cell(stage.name)} | ${count(stage.spans)} | ${of("success")} | ${of("error")} | ${of("dropped")} | ${of("skipped")} | ${duration(stage.duration_ns)} | ${rate(handled(stage), stage.duration_ns)} |`);
    }
    lines.push("");
  }
  lines.push("```text");
  for (const node of all.slice(0, MOST_SPANS)) {
    lines.push(`${"  ".repeat(Math.min(node.depth, 20))}${node.name.replace(/[\r\n`]+/g, " ")}  ${duration(node.duration)}${node.error ? "  ERROR" : ""}`);
  }
  if (all.length > MOST_SPANS) lines.push(`… and ${count(all.length - MOST_SPANS)} more`);
  lines.push("```", "");
  return lines.join("\n");
}

// A batch bears the name of the stage that it is in.
export const stageName = (stage) =>
  stage.kind === "batch" ? (stage.stage ? `${stage.stage} · batches` : "batches") : stage.stage || stage.kind;

export const handled = (stage) => Object.values(stage.records).reduce((sum, value) => sum + value, 0);

// Put a text on the clipboard; false where the browser has none for this page (no TLS, another host).
export async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
