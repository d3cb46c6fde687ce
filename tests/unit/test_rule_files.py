"""`otel-pipeline alerts lint` reads the files that people have, and says where they are wrong."""

from __future__ import annotations

import argparse
import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from otel_pipeline.alerts.lint import lint
from otel_pipeline.alerts.rule_files import read
from otel_pipeline.cli import alerts_lint
from otel_pipeline.errors import CommandError

if TYPE_CHECKING:
    from pathlib import Path

STALLED = "sum(rate(x_total[5m])) == 0"
FILE = f"""groups:
  - name: a
    rules:
      - alert: Stalled
        expr: {STALLED}
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    alerts_lint.add_arguments(parser)
    return alerts_lint.run(parser.parse_args(arguments))


def found(path: Path, text: str) -> list[tuple[int, str]]:
    """Return line and id of each finding, and line and message of what cannot be used."""
    (path / "rules.yml").write_text(text)
    file = read("rules.yml")
    report = lint(file.rules)
    return [(one.line, one.id) for one in report.findings] + [
        (one.line, one.message) for one in file.problems
    ]


def rules(*lines: str) -> str:
    return "\n".join(["groups:", "- name: a", "  rules:", *(f"  {line}" for line in lines), ""])


def test_a_finding_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line names file, line, rule and check; the status is 1, and 0 when all is well."""
    (tmp_path / "rules.yml").write_text(FILE)
    assert run("rules.yml") == 1
    out, err = capsys.readouterr()
    assert out == (
        f"rules.yml:5: Stalled: may-be-absent: `{STALLED}` is silent when the series has gone, as "
        "after a crash or between two runs: add `or absent(…)`, or alert on the time since the "
        "last success\n"
    )
    assert err == "1 rule: 1 finding\n"
    (tmp_path / "rules.yml").write_text(FILE.replace("== 0", "> 100"))
    assert run("rules.yml") == 0
    assert capsys.readouterr() == ("", "1 rule: 0 findings\n")


def test_json_is_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With `--json` stdout has findings, what was allowed, and what is invalid."""
    (tmp_path / "a.yml").write_text(FILE + "        # otel-pipeline: allow may-be-absent nightly\n")
    (tmp_path / "b.yml").write_text(FILE.replace("[5m]", "[30s]") + "\n  - rules: []\n")
    assert run("--json", "a.yml", "b.yml") == 2
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["rules"] == 1
    assert document["findings"] == []
    assert [(one["file"], one["line"], one["id"]) for one in document["allowed"]] == [
        ("a.yml", 5, "may-be-absent")
    ]
    assert document["invalid"] == [{"file": "b.yml", "line": 7, "message": "a group has no `name`"}]
    assert document["not_judged"] == []


@pytest.mark.parametrize(
    "text",
    [
        FILE,
        "---\n" + FILE + "---\n# nothing\n",
        "apiVersion: v1\nkind: Service\nspec: {}\n---\n" + FILE,
        json.dumps({"groups": [{"name": "a", "rules": [{"alert": "S", "expr": STALLED}]}]}),
        rules(f"- {{alert: S, expr: '{STALLED}'}}"),
        rules("- alert: S", f"  expr: '{STALLED}'"),
        rules("- alert: S", "  expr: |", "    sum(rate(x_total[5m]))", "    # why", "    == 0"),
        rules("- alert: S", "  expr: >-", "    sum(rate(x_total[5m]))", "", "    == 0"),
        rules("- alert: S", "  expr: sum(rate(x_total[5m]))", "    == 0"),
        rules("- &a", "  alert: S", f"  expr: {STALLED}"),
        f"x-all: &all {{expr: '{STALLED}'}}\n" + rules("- <<: *all", "  alert: S"),
        (
            "kind: PrometheusRule\nspec:\n  groups:\n  - name: a\n    rules:\n    - alert: S\n"
            f"      expr: {STALLED}\n"
        ),
        (
            "kind: List\nitems:\n- kind: PrometheusRule\n  spec:\n    groups:\n    - name: a\n"
            f"      rules:\n      - alert: S\n        expr: {STALLED}\n"
        ),
        rules("- record: job:x:y", f"  expr: {STALLED}"),
        rules(
            "- alert: S",
            f"  expr: {STALLED}",
            "  annotations:",
            "    a: '{{ $value }} rate(x[1s])'",
        ),
    ],
)
def test_rules_are_found_wherever_they_are_kept(tmp_path: Path, text: str) -> None:
    """All forms of the same rule have the same finding."""
    assert [id_ for _, id_ in found(tmp_path, text)] == ["may-be-absent"]


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (["- alert: S", "  expr: |", "    up > 1", "      and", "    rate(x[30s]) > 1"], 8),
        (["- alert: S", "  expr: >", "    up > 1", "", "    and", "    rate(x[30s]) > 1"], 9),
        (["- alert: S", "  expr: up > 1 and", "    rate(x[30s]) > 1"], 6),
        (["- alert: S", '  expr: "up > 1 and', '    rate(x[30s]) > 1"'], 6),
        (["- alert: S", "  expr: |2", "", "    # why", "", "    rate(x[30s]) > 1"], 9),
        (["- expr: rate(x[30s]) > 1", "  alert: S"], 4),
    ],
)
def test_the_line_is_that_of_the_part(tmp_path: Path, lines: list[str], line: int) -> None:
    """In an expression of several lines a finding has the one on which it stands."""
    assert found(tmp_path, rules(*lines)) == [(line, "short-window")]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("groups: [", 1, "it is no YAML: "),
        ("groups:\n{{- range .Values.x }}\n- name: a\n", 3, "render it first (`helm template`)"),
        ("groups:\n- &a\n  <<: *a\n", 1, "an anchor (`&`) in it refers to itself"),
        ("- a\n", 1, "a rule file is a mapping with `groups:`"),
        ("foo: 1\n", 1, "it has no rules: a rule file has `groups:` at its top"),
        ("groups: {}\n", 1, "`groups` is a list"),
        ("groups:\n- x\n", 2, "an entry of `groups` is no mapping"),
        (rules("- alert: S", "  expr: up", "  expr: down"), 6, "the key `expr` stands twice"),
        (FILE + "groups: []\n", 6, "the key `groups` stands twice"),
        (rules("- expr: up"), 4, "a rule has either `alert` or `record`"),
        (rules("- alert: S", "  record: b", "  expr: up"), 4, "a rule has either"),
        (rules("- alert: S"), 4, "S has no expression"),
        (rules("- alert: S", "  expr: ''"), 4, "S has no expression"),
        (rules("- alert: S", "  expr: up >"), 5, "S: the expression is no PromQL: an expression"),
        (rules("- alert: S", "  expr: |", "    up >", "    rat(x[5m])"), 7, "did you mean `rate`?"),
        (rules("- alert: S", "  expr: x[5m]"), 5, "gives a matrix, and a rule needs a vector"),
        (rules("- alert: S", "  expr: rate(x[$__interval])"), 5, "a rule file needs its value"),
        (rules("- alert: S", "  expr: up", "  for: 5 minutes"), 6, "`for`: '5 minutes' is no dur"),
    ],
)
def test_what_cannot_be_used_has_its_line(
    tmp_path: Path, text: str, line: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The status is 2, and the message on stderr says where and what."""
    [(at, said)] = found(tmp_path, text)
    assert (at, message in said) == (line, True), said
    assert run("rules.yml") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"otel-pipeline: rules.yml:{line}: ")


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "groups:\n", "groups: []\n", "{}\n"])
def test_a_file_without_rules_is_well(tmp_path: Path, text: str) -> None:
    """What Prometheus loads without a word has no findings."""
    (tmp_path / "rules.yml").write_text(text)
    assert run("rules.yml") == 0


def test_a_wrong_rule_hides_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Findings are printed for the rules that can be read, in all files."""
    (tmp_path / "a.yml").write_text(FILE + "      - alert: Broken\n        expr: up >\n")
    (tmp_path / "b.yml").write_text(FILE)
    assert run("a.yml", "b.yml") == 2
    out, err = capsys.readouterr()
    assert [line.split(" ")[0] for line in out.splitlines()] == ["a.yml:5:", "b.yml:5:"]
    assert "a.yml:7: Broken: the expression is no PromQL" in err


@pytest.mark.parametrize(
    "expr",
    [
        'sum(rate({app="x"} |= "error" [5m])) == 0',
        'sum by (a) (count_over_time({app="x"} | json | level="error" [1m])) > 1',
        'sum(bytes_rate({app="x"}[5m])) == 0',
    ],
)
def test_rules_of_loki_are_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], expr: str
) -> None:
    """LogQL is not PromQL: the file is named on stderr, and no finding."""
    (tmp_path / "rules.yml").write_text(rules("- alert: S", f"  expr: '{expr}'"))
    assert run("rules.yml") == 0
    assert "rules.yml: rules of Loki (LogQL) are not judged" in capsys.readouterr().err


ALLOW = "# otel-pipeline: allow may-be-absent it runs all day"


@pytest.mark.parametrize(
    "lines",
    [
        [f"- alert: S {ALLOW}", f"  expr: {STALLED}"],
        ["- alert: S", f"  expr: {STALLED}  {ALLOW}"],
        ["- alert: S", f"  {ALLOW}", f"  expr: {STALLED}"],
        [ALLOW, "- alert: S", f"  expr: {STALLED}"],
        ["- alert: S", f"  expr: {STALLED}", f"  {ALLOW}"],
        ["- alert: S", f"  expr: | {ALLOW}", f"    {STALLED}"],
        ["- alert: S", "  expr: |", f"    {STALLED} {ALLOW}"],
        ["- alert: S", f"  expr: {STALLED}", f"  for: 5m {ALLOW.replace('absent', 'absent, x')}"],
        ["- alert: First", "  expr: up == 0", "", ALLOW, "- alert: S", f"  expr: {STALLED}"],
    ],
)
def test_a_comment_on_the_rule_allows_a_finding(tmp_path: Path, lines: list[str]) -> None:
    """Wherever in the rule or directly before it the comment stands."""
    assert found(tmp_path, rules(*lines)) == []


@pytest.mark.parametrize(
    "lines",
    [
        ["- alert: S", f"  expr: {STALLED}", ALLOW, "- alert: Second", "  expr: up == 0"],
        [f"- alert: First {ALLOW}", "  expr: up == 0", "- alert: S", f"  expr: {STALLED}"],
        ["- alert: S", f"  expr: {STALLED}  {ALLOW.replace('may-be-absent', 'short-window')}"],
        ["- alert: S", f"  expr: {STALLED}", "  annotations:", f"    a: '{ALLOW}'"],
        ["- alert: S", f"  expr: {STALLED}", "  annotations:", "    a: |", f"      {ALLOW}"],
    ],
)
def test_a_comment_allows_nothing_else(tmp_path: Path, lines: list[str]) -> None:
    """One on another rule, for another check, or in a text changes nothing."""
    assert [id_ for _, id_ in found(tmp_path, rules(*lines))] == ["may-be-absent"]


def test_a_comment_that_allows_no_check_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A slip in the id would leave one wondering why the finding is still there."""
    (tmp_path / "rules.yml").write_text(FILE + "        # otel-pipeline: allow may-be-abset\n")
    assert run("rules.yml") == 1
    assert "rules.yml:5: Stalled: its comment allows may-be-abset, which is no check" in (
        capsys.readouterr().err
    )


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A file that is missing, a folder, and what is no text are told apart."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, said in {
        "missing.yml": "missing.yml cannot be read: No such file",
        ".": ". cannot be read: Is a directory",
        "binary": "binary is no text in UTF-8",
    }.items():
        with pytest.raises(CommandError, match=said):
            run(name)


@pytest.mark.parametrize("text", ["abc", "0", "-5s", "0s"])
def test_a_wrong_scrape_interval_is_an_error(tmp_path: Path, text: str) -> None:
    """It is a duration greater than 0."""
    (tmp_path / "rules.yml").write_text(FILE)
    with pytest.raises(CommandError, match="--scrape-interval"):
        run("rules.yml", f"--scrape-interval={text}")


def test_standard_input_is_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What another program writes is read from `-`."""
    monkeypatch.setattr("sys.stdin", io.StringIO(FILE))
    assert run("-") == 1
    assert capsys.readouterr().out.startswith("<stdin>:5: Stalled: may-be-absent: ")


def test_the_scrape_interval_decides_what_is_short(tmp_path: Path) -> None:
    """A window of five minutes is short at a scrape each two minutes."""
    (tmp_path / "rules.yml").write_text(rules("- alert: S", "  expr: rate(x_total[5m]) > 1"))
    assert run("rules.yml", "--scrape-interval", "1m") == 0
    assert run("rules.yml", "--scrape-interval", "2m") == 1
