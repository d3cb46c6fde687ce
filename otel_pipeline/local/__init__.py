"""The local backend: receives OTLP on this machine, keeps it in one file, and answers questions.

It runs as `otel-pipeline ui`, a process of its own. What comes in goes one way:

```text
otlp_http, otlp_grpc ─► receiver (one request at a time) ─► sqlite ─► decode, signature
                                 └─► forward                  └─► retention
api (HTTP, JSON), cli query ─► sqlite ─► reading, traces, series ─► filters
```

A request is answered when it is committed. Spans are stored in blocks of up to 32 that came
together, as they came; beside a block stand the times and a signature by which a search skips most
of them. Log records, points and runs have a row each. `limits` has what a sender may ask for.

`page/` is the web page: static files that ask the API, sent by `pages`. The API is told in
`docs/reference/local-api.md`.
"""
