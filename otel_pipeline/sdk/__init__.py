"""The only importers of the OpenTelemetry SDK: providers, queues, transports, the metrics endpoint.

Nothing here is imported before `configure()`.
"""
