"""Expressions of PromQL for property tests: of all forms, and about half of them right."""

from __future__ import annotations

import json

from hypothesis import strategies as st

__all__ = ["expressions"]

NAMES = st.sampled_from(["x", "x_total", "x_bucket", "job:x:rate5m", "sum", "on", "bool"])
LABELS = st.sampled_from(["a", "status", "le", "by", '"my.label"'])
# All of them are regular expressions, too; whether those are right only Prometheus says.
TEXTS = st.sampled_from(["", "b", "a|b", ".*", 'q"', "ä", "\\.", "}", "#"])
DURATIONS = st.sampled_from(["5m", "1h30m", "30s", "300", "1d", "250ms"])
NUMBERS = st.sampled_from(["0", "1", "0.5", "1e3", "0x1f", "5m", "Inf", "NaN", ".5", "1_000"])
BINARY = st.sampled_from("+ - * / % ^ atan2 == != < > <= >= and or unless".split())
MATCHING = st.sampled_from(
    ["", "", "", "on (a)", "ignoring (a)", "on ()", "on (a) group_left (b)", "bool", "bool on (a)"]
)
MODIFIERS = st.sampled_from(["", "", "", " offset 5m", " @ 5", " @ end() offset -1h"])


def selectors() -> st.SearchStrategy[str]:
    matcher = st.tuples(LABELS, st.sampled_from(["=", "!=", "=~", "!~"]), TEXTS).map(
        lambda parts: f"{parts[0]}{parts[1]}{json.dumps(parts[2], ensure_ascii=False)}"
    )
    braces = st.lists(matcher, max_size=2).map(lambda all_: "{" + ",".join(all_) + "}")
    return st.tuples(NAMES | st.just(""), braces | st.just("")).map("".join).filter(bool)


def expressions() -> st.SearchStrategy[str]:
    """Return a strategy for expressions."""
    labels = st.lists(LABELS, max_size=2).map(lambda all_: f"({', '.join(all_)})")
    leaves = NUMBERS | st.tuples(selectors(), MODIFIERS).map("".join)

    def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        window = st.one_of(
            st.builds("{}[{}]{}".format, selectors(), DURATIONS, MODIFIERS),
            st.builds("{}[{}:{}]{}".format, inner, DURATIONS, DURATIONS | st.just(""), MODIFIERS),
        )
        return st.one_of(
            st.builds("({})".format, inner),
            st.builds("{}{}".format, st.sampled_from("+-"), inner),
            st.builds("{} {} {} {}".format, inner, BINARY, MATCHING, inner),
            st.builds("{}({})".format, st.sampled_from(["rate", "max_over_time"]), window),
            st.builds("{}({})".format, st.sampled_from(["abs", "absent", "scalar"]), inner),
            st.builds("histogram_quantile({}, {})".format, NUMBERS, inner),
            st.builds(
                "{} {} {} ({})".format,
                st.sampled_from(["sum", "count", "MAX"]),
                st.sampled_from(["by", "without"]),
                labels,
                inner,
            ),
            st.builds("topk({}, {}) by {}".format, NUMBERS, inner, labels),
        )

    return st.recursive(leaves, larger, max_leaves=6)
