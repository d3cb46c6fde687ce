"""The functions and aggregations of PromQL, with what they take."""

from __future__ import annotations

from typing import Final

__all__ = ["AGGREGATIONS", "FUNCTIONS", "KINDS"]

#: What the letters of a signature mean.
KINDS: Final = {"v": "vector", "m": "matrix", "n": "scalar", "s": "string"}

_OF_A_VECTOR: Final = """
abs absent acos acosh asin asinh atan atanh ceil cos cosh deg exp floor histogram_avg
histogram_count histogram_stddev histogram_stdvar histogram_sum ln log10 log2 rad scalar sgn sin
sinh sort sort_desc sqrt tan tanh timestamp
""".split()
_OF_A_RANGE: Final = """
absent_over_time avg_over_time changes count_over_time delta deriv first_over_time idelta increase
irate last_over_time mad_over_time max_over_time min_over_time present_over_time rate resets
stddev_over_time stdvar_over_time sum_over_time ts_of_first_over_time ts_of_last_over_time
ts_of_max_over_time ts_of_min_over_time
""".split()
_OF_A_DATE: Final = "day_of_month day_of_week day_of_year days_in_month hour minute month year"

#: Each function with its arguments: a letter each (see `KINDS`); the last may be left out before
#: `?`, and left out or repeated before `*`.
FUNCTIONS: Final = {
    **dict.fromkeys(_OF_A_VECTOR, "v"),
    **dict.fromkeys(_OF_A_RANGE, "m"),
    **dict.fromkeys(_OF_A_DATE.split(), "v?"),
    **dict.fromkeys(("end", "pi", "range", "start", "step", "time"), ""),
    "clamp": "vnn",
    "clamp_max": "vn",
    "clamp_min": "vn",
    "double_exponential_smoothing": "mnn",
    "histogram_fraction": "nnv",
    "histogram_quantile": "nv",
    "histogram_quantiles": "vsnn*",
    "holt_winters": "mnn",  # the name of double_exponential_smoothing before Prometheus 3
    "info": "vv?",
    "label_join": "vsss*",
    "label_replace": "vssss",
    "max_of": "nn",
    "min_of": "nn",
    "predict_linear": "mn",
    "quantile_over_time": "nm",
    "round": "vn?",
    "sort_by_label": "vs*",
    "sort_by_label_desc": "vs*",
    "vector": "n",
}

#: Each aggregation with the kind of its parameter, or nothing.
AGGREGATIONS: Final = {
    **dict.fromkeys("avg count group max min stddev stdvar sum".split(), ""),
    **dict.fromkeys("bottomk limit_ratio limitk quantile topk".split(), "n"),
    "count_values": "s",
}
