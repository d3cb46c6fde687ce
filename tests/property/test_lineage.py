"""Lineage with any names."""

from __future__ import annotations

import json
import string
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from otel_pipeline import Pipeline
from otel_pipeline.quality import lineage
from otel_pipeline.testing import capture

SAFE = st.text(string.ascii_letters + string.digits, min_size=1, max_size=12)
TEXT = st.text(max_size=600)


@given(TEXT)
def test_any_text_is_a_name_or_a_clear_error(text: str) -> None:
    """A name is never empty and never longer than its bound; nothing else than ValueError comes."""
    try:
        found = lineage.identify(text, "here")
    except ValueError:
        return
    assert found.namespace
    assert found.name
    assert max(map(len, found)) <= 512


@given(SAFE, SAFE, SAFE, SAFE, st.sampled_from(["s3", "postgres", "https", "hdfs", "kafka"]))
def test_no_password_of_a_url_is_kept(
    user: str, password: str, host: str, path: str, scheme: str
) -> None:
    """User, password and query make no difference to the name."""
    plain = lineage.identify(f"{scheme}://h{host}/{path}", "here")
    url = f"{scheme}://{user}:{password}@h{host}/{path}?token={password}#{password}"
    assert lineage.identify(url, "here") == plain


@given(SAFE, SAFE, TEXT)
def test_a_run_s_uuid_follows_from_its_id(namespace: str, job: str, run_id: str) -> None:
    """The same run has the same UUID, and one of another job has another."""
    one = lineage.run_uuid(lineage.JobName(namespace, job), run_id)
    assert one == lineage.run_uuid(lineage.JobName(namespace, job), run_id)
    assert one != lineage.run_uuid(lineage.JobName(namespace, job + "x"), run_id)


@given(st.lists(st.text(min_size=1), max_size=4), st.dictionaries(TEXT, TEXT, max_size=4))
def test_any_name_can_be_declared(names: list[str], schema: dict[str, Any]) -> None:
    """Hostile names reach spans as text, and hold nothing up."""
    pairs = [("n", name) for name in names if name.strip().strip("/")]
    with capture() as captured, Pipeline("p").stage("load") as stage:
        for pair in pairs:
            stage.writes(pair, schema=schema, columns={column: [(pair, "c")] for column in schema})
    json.dumps(dict(captured.span("p load").attributes or {}))
