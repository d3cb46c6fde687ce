"""What every history does: the tests of a kind of history inherit these."""

from __future__ import annotations

import dataclasses

from otel_pipeline.quality import History
from otel_pipeline.quality.history import Maintenance, Note, Point

DAY = 86400.0
#: The points that a history is filled with: ten days of rows and of a column's share of nulls.
START = 1_767_225_600.0
FILLED = [
    Point("flights", metric, START + DAY * day, value=scale * (100.0 + day))
    for day in range(10)
    for metric, scale in (("null_ratio:dep_time", 1 / 1000), ("rows", 1.0))
]


def bare(points: list[Point]) -> list[tuple[str, float, float]]:
    return [(point.metric, point.at, round(point.value, 9)) for point in points]


class HistoryContract:
    """Tests of a fixture `filled`, a history with the points of `FILLED`."""

    def test_it_is_a_history(self, filled: History) -> None:
        """It has what monitors call."""
        assert isinstance(filled, History)

    def test_the_last_points_come_the_oldest_first(self, filled: History) -> None:
        """Of ten points up to the eighth, the last three are the sixth to the eighth."""
        points = filled.points("flights", "rows", before=START + 7 * DAY, limit=3)
        expected = [point for point in FILLED if point.metric == "rows"][5:8]
        assert bare(points) == bare(expected)

    def test_metrics_of_columns_are_kept_apart(self, filled: History) -> None:
        """A column's values come under its name, and no other column has any."""
        before = START + 9 * DAY
        points = filled.points("flights", "null_ratio:dep_time", before=before, limit=50)
        assert bare(points) == bare([one for one in FILLED if one.metric != "rows"])
        assert filled.points("flights", "null_ratio:origin", before=before, limit=50) == []
        assert filled.points("planes", "rows", before=before, limit=50) == []

    def test_series_are_listed(self, filled: History) -> None:
        """It says of which datasets and metrics there are points."""
        expected = [("flights", "", "null_ratio:dep_time"), ("flights", "", "rows")]
        assert filled.series() == expected
        assert filled.series("flights") == expected
        assert filled.series("planes") == []

    def test_notes_come_back(self, filled: History) -> None:
        """The last notes of a name come the oldest first, and no others."""
        notes = [
            Note("flights", "schema", START + day * DAY, f'{{"column": "{day}"}}')
            for day in range(3)
        ]
        filled.record([], [*notes, Note("flights", "schema", START, "{}", segment="carrier=AA")])
        assert filled.notes("flights", "schema", before=START + DAY, limit=5) == notes[:2]
        assert filled.notes("flights", "schema", before=START + 9 * DAY, limit=1) == notes[2:]

    def test_findings_are_ruled_on(self, filled: History) -> None:
        """A ruling stays with its finding; a point without a finding has none."""
        late = START + 20 * DAY
        found = Point(
            "flights", "rows", late, 9.0, low=90.0, high=110.0, score=5.0, explanation="too few"
        )
        filled.record([found, dataclasses.replace(found, at=late + DAY, explanation="")])
        (finding,) = filled.findings("flights")
        assert dataclasses.replace(finding, id=0) == found
        assert filled.rule([finding.id, 10**6], "accepted") == [finding.id]
        assert [one.ruling for one in filled.findings()] == ["accepted"]
        assert filled.findings("planes") == []

    def test_maintenance_is_of_a_dataset_or_of_all(self, filled: History) -> None:
        """A dataset has its own windows and those of all, by their start."""
        own = Maintenance("flights", START + DAY, START + 2 * DAY, "migration")
        every = Maintenance("", START, START + DAY)
        other = Maintenance("planes", START, START + DAY)
        for window in (own, every, other):
            filled.plan(window)
        assert filled.maintenance("flights") == [every, own]

    def test_segments_are_kept_apart(self, filled: History) -> None:
        """A segment's values are not the dataset's."""
        point = Point("flights", "rows", START + DAY, 7.0, segment="carrier=AA")
        filled.record([point])
        points = filled.points(
            "flights", "rows", segment="carrier=AA", before=START + 9 * DAY, limit=5
        )
        assert [dataclasses.replace(one, id=0) for one in points] == [point]

    def test_a_session_sees_what_it_recorded(self, filled: History) -> None:
        """Calls in a session are as those outside of it."""
        with filled.session():
            filled.record([], [Note("flights", "colour", START, '"red"')])
            inside = filled.notes("flights", "colour", before=START, limit=1)
        assert inside == filled.notes("flights", "colour", before=START, limit=1) != []
