"""Alerts as code: recording and alerting rules, their tests, and Alertmanager's routes.

`otel-pipeline alerts` writes them. Metric names come from `otel_pipeline.semconv`, recorded series
from `otel_pipeline.alerts.recorded`.
"""
