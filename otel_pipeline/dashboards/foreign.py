"""Names in queries that are not the vocabulary's, since others make these series.

Those of the collector are what it shows by default, and with the files in `collector/`: without
`_total`.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ALL"]

# Prometheus itself.
ALERTS: Final = "ALERTS"
#: An alert that always fires, so that its silence is noticed.
WATCHDOG: Final = "Watchdog"
UP: Final = "up"
SCRAPE_DURATION: Final = "scrape_duration_seconds"
SCRAPE_SAMPLES: Final = "scrape_samples_scraped"
SCRAPE_NEW_SERIES: Final = "scrape_series_added"

# The collector. The metrics of the three signals differ in their ends.
RECEIVER_ACCEPTED: Final = "otelcol_receiver_accepted"
RECEIVER_REFUSED: Final = "otelcol_receiver_refused"
EXPORTER_SENT: Final = "otelcol_exporter_sent"
EXPORTER_SEND_FAILED: Final = "otelcol_exporter_send_failed"
EXPORTER_ENQUEUE_FAILED: Final = "otelcol_exporter_enqueue_failed"
QUEUE_SIZE: Final = "otelcol_exporter_queue_size"
QUEUE_CAPACITY: Final = "otelcol_exporter_queue_capacity"
MEMORY: Final = "otelcol_process_memory_rss"
UPTIME: Final = "otelcol_process_uptime"

#: What the collector calls the items of each signal, at the end of a metric's name.
COLLECTOR_ITEMS: Final = {
    "traces": "spans",
    "metrics": "metric_points",
    "logs": "log_records",
}

#: Every name that a query may use besides the vocabulary's and the recorded series.
ALL: Final = (
    ALERTS,
    UP,
    SCRAPE_DURATION,
    SCRAPE_SAMPLES,
    SCRAPE_NEW_SERIES,
    *(
        f"{metric}_{items}"
        for metric in (
            RECEIVER_ACCEPTED,
            RECEIVER_REFUSED,
            EXPORTER_SENT,
            EXPORTER_SEND_FAILED,
            EXPORTER_ENQUEUE_FAILED,
        )
        for items in COLLECTOR_ITEMS.values()
    ),
    QUEUE_SIZE,
    QUEUE_CAPACITY,
    MEMORY,
    UPTIME,
)
