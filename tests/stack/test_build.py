"""The programs are built once, put in place when finished, and an error says what to do."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.stack.build import GO_PROGRAMS, PROGRAMS, PythonProgram, StackError, cache
from tests.stack.debian import PACKAGES
from tests.stack.programs import program

ROOT = Path(__file__).parents[2]
# It stands for Go where Go would take minutes: it writes what it is told to into the output, after
# it did what the test has it do.
GO = """#!/bin/sh
echo "$@" >> "$CALLS"
while [ "$1" != -o ]; do shift; done
{behaviour}
printf '#!/bin/sh\\necho built\\n' > "$2"
chmod +x "$2"
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a cache of its own for each test, and no folders of Go's."""
    monkeypatch.setenv("OTEL_PIPELINE_STACK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.delenv("GOCACHE", raising=False)
    monkeypatch.delenv("GOMODCACHE", raising=False)


@pytest.fixture
def install_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Give a function that puts the stand-in for Go on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("chmod", "mkdir", "seq", "setpriv", "sh", "sleep", "touch"):
        found = shutil.which(tool)
        if found is not None:
            (folder / tool).symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))

    def install(behaviour: str = ":") -> None:
        (folder / "go").write_text(GO.replace("{behaviour}", behaviour))
        (folder / "go").chmod(0o755)

    return install


def start(*names: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.stack", "build", *names],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*names: str) -> tuple[int, str, str]:
    with start(*names) as process:
        stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


def calls(tmp_path: Path) -> list[str]:
    file = tmp_path / "calls"
    return file.read_text().splitlines() if file.exists() else []


def wait_for(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.02)


def test_a_program_is_built_once_and_where_the_output_says(tmp_path: Path, install_go) -> None:
    """The second build finds what the first has put there; Go's folders are gone."""
    install_go('mkdir -p "$GOMODCACHE" "$GOCACHE"')
    status, stdout, stderr = run("amtool")
    assert (status, stderr) == (0, "")
    assert f"built in 0 s, 0 MB: {program('amtool')}" in stdout
    assert subprocess.check_output([program("amtool")], text=True) == "built\n"

    status, stdout, stderr = run("amtool")
    assert (status, stderr) == (0, "")
    assert stdout == f"[1/1] amtool {PROGRAMS['amtool'].version}: is there: {program('amtool')}\n"
    assert len(calls(tmp_path)) == 1
    assert sorted(path.name for path in cache().iterdir()) == [".lock", "amtool"]


def test_the_folder_of_a_program_says_what_was_built(tmp_path: Path) -> None:
    """It has the version, the platform, and what covers all that decides the outcome."""
    path = PROGRAMS["loki"].path
    assert path.name == "loki"
    assert path.parents[1] == tmp_path / "cache" / "loki"
    version, system, _, digest = path.parent.name.split("-")
    assert version == PROGRAMS["loki"].version
    assert system == sys.platform
    assert len(digest) == 12


def test_without_go_the_error_says_what_to_install(install_go) -> None:
    """A machine without Go hears which version it needs, and from where."""
    status, _, stderr = run("amtool")
    assert status == 1
    assert "no `go` on PATH. Install Go 1.26 or newer (https://go.dev/doc/install)" in stderr


def test_an_error_has_the_end_of_what_go_said(install_go) -> None:
    """Go's last lines and the remedy are shown, and nothing is taken for built."""
    install_go('for n in $(seq 100); do echo "line $n."; done; exit 3')
    status, _, stderr = run("amtool")
    assert status == 1
    assert "ended with 3" in stderr
    assert "line 100." in stderr
    assert "line 76." in stderr
    assert "line 75." not in stderr
    assert "go env GOPROXY" in stderr
    with pytest.raises(StackError, match=r"run `python -m tests.stack build amtool`"):
        program("amtool")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_build_leaves_nothing_that_looks_finished(
    tmp_path: Path, install_go, number: signal.Signals
) -> None:
    """The next build starts afresh, whatever way the one before ended."""
    install_go(f'echo half > "$2"; touch "{tmp_path}/running"; exec sleep 30')
    with start("amtool") as process:
        wait_for(tmp_path / "running")
        process.send_signal(number)
        assert process.wait(60)
    assert not PROGRAMS["amtool"].path.exists()
    install_go()
    assert run("amtool")[0] == 0
    assert program("amtool").read_text().endswith("echo built\n")
    assert not (cache() / ".work").exists()


def test_two_builds_at_once_build_once(tmp_path: Path, install_go) -> None:
    """The second waits for the first, and takes what that has built."""
    install_go(
        f'touch "{tmp_path}/running"; while [ ! -e "{tmp_path}/go-on" ]; do sleep 0.05; done'
    )
    with start("amtool") as first:
        wait_for(tmp_path / "running")
        with start("amtool") as second:
            assert second.stdout is not None
            assert second.stdout.readline() == "another build runs; waiting for its end\n"
            (tmp_path / "go-on").touch()
            assert "built in" in first.communicate(timeout=30)[0]
            assert "is there" in second.communicate(timeout=30)[0]
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(calls(tmp_path)) == 1


def test_without_its_packages_a_program_in_python_is_not_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error has what pip said and the remedy, and nothing is taken for built."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    status, _, stderr = run("ddapm")
    assert status == 1
    assert "No matching distribution found" in stderr
    assert "pip config list" in stderr
    assert not PROGRAMS["ddapm"].path.exists()


def test_go_uses_as_many_processors_as_it_is_told(tmp_path: Path, install_go) -> None:
    """`--jobs` limits the commands that Go runs at once, and the threads of each."""
    install_go(f'echo "$GOMAXPROCS" > "{tmp_path}/processors"')
    assert run("amtool", "--jobs=1")[0] == 0
    assert calls(tmp_path)[0].startswith("build -p=1 ")
    assert (tmp_path / "processors").read_text() == "1\n"


def test_what_go_compiled_stays_for_the_programs_of_one_module(tmp_path: Path, install_go) -> None:
    """The second program of a module finds it; the next module starts with an empty disk."""
    install_go(
        f'[ -e "$GOCACHE" ] && echo "$2" >> "{tmp_path}/found"; mkdir -p "$GOCACHE"',
    )
    assert run("jaeger", "amtool", "alertmanager")[0] == 0
    found = (tmp_path / "found").read_text().splitlines()
    assert [Path(path).name for path in found] == ["amtool"]
    assert not (cache() / ".go").exists()


def test_folders_of_go_that_the_environment_names_are_left_alone(
    tmp_path: Path, install_go, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who names Go's folders keeps them; without that, a build keeps them when it is told to."""
    monkeypatch.setenv("GOCACHE", str(tmp_path / "own"))
    install_go('mkdir -p "$GOMODCACHE" "$GOCACHE"')
    assert run("amtool")[0] == 0
    assert (tmp_path / "own").is_dir()
    assert not (cache() / ".go").exists()
    assert run("alertmanager", "--keep-go-caches")[0] == 0
    assert [path.name for path in (cache() / ".go").iterdir()] == ["gomodcache"]


def test_the_cache_is_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default it is where XDG says, or under `~/.cache`."""
    monkeypatch.delenv("OTEL_PIPELINE_STACK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache() == Path("/xdg/otel_pipeline/stack")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/somebody")
    assert cache() == Path("/somebody/.cache/otel_pipeline/stack")
    monkeypatch.setenv("OTEL_PIPELINE_STACK_CACHE", "~/stack")
    assert cache() == Path("/somebody/stack")


def test_versions_come_from_the_modules() -> None:
    """Each program has a version, and the collector's is that of its manifest."""
    for one in PROGRAMS.values():
        assert one.version[0].isdigit()
    manifest = GO_PROGRAMS["otelcol"].manifest
    assert manifest is not None
    assert f"\n  version: {PROGRAMS['otelcol'].version}\n" in manifest.read_text()


@pytest.fixture
def install_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Give a function that puts stand-ins for apt and dpkg on PATH."""
    folder = tmp_path / "debian"
    folder.mkdir()
    for tool in ("mkdir", "sh", "touch"):
        (folder / tool).symlink_to(str(shutil.which(tool)))
    monkeypatch.setenv("PATH", str(folder))

    def install(version: str) -> None:
        scripts = {
            "apt-get": f'echo "$@" >> "$CALLS"; touch "{PACKAGES[OLD].package}_1.deb"',
            "dpkg-deb": f"""case $1 in
            --field) echo {version};;
            --extract) mkdir -p "$3/usr/bin" "$3/usr/share/prometheus/alertmanager"
                printf 'reads /usr/share/prometheus/alertmanager/x' > "$3/{PACKAGES[OLD].program}";;
            esac""",
        }
        for name, text in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(0o755)

    return install


OLD = "alertmanager-debian"


def test_a_package_of_debian_is_fetched_once(tmp_path: Path, install_apt) -> None:
    """It is unpacked and not installed, and reads what it needs from where it runs."""
    install_apt("0.25.0-1+b4")
    for _ in range(2):
        assert run(OLD) == (0, f"{OLD} 0.25: {PACKAGES[OLD].path}\n", "")
    assert calls(tmp_path) == ["-qq download prometheus-alertmanager"]
    assert program(OLD).read_text() == "reads .usr/share/prometheus/alertmanager/x"
    assert sorted(path.name for path in (cache() / OLD).iterdir()) == [
        PACKAGES[OLD].folder.name,
    ]
    PACKAGES[OLD].bring(tmp_path)
    assert (tmp_path / ".usr/share/prometheus/alertmanager").is_dir()


def test_a_package_of_another_version_is_refused(install_apt) -> None:
    """What is promised for one version is not tested with another."""
    install_apt("0.28.1-1")
    status, _, stderr = run(OLD)
    assert status == 1
    assert "apt has prometheus-alertmanager 0.28.1-1, and not 0.25" in stderr
    assert list((cache() / OLD).iterdir()) == []


def test_without_apt_there_are_no_packages_of_debian(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another system hears why."""
    monkeypatch.setenv("PATH", str(tmp_path))
    status, _, stderr = run(OLD)
    assert status == 1
    assert f"{OLD} is a package of Debian, and there is no apt-get" in stderr


def test_an_unknown_program_is_refused() -> None:
    """The error lists the programs that there are."""
    status, _, stderr = run("grafana")
    assert status == 2
    assert "'grafana' is none of prometheus, promtool, alertmanager" in stderr


def test_the_packages_are_named_with_their_versions() -> None:
    """No package of a program in Python is left to chance, or comes from another place."""
    for one in PROGRAMS.values():
        if isinstance(one, PythonProgram):
            lines = one.packages.read_text().splitlines()
            packages = [line for line in lines if not line.startswith("#")]
            assert packages
            assert all(re.fullmatch(r"[\w.-]+==[\w.]+", package) for package in packages)


def test_the_modules_are_those_of_the_public_index() -> None:
    """No module is replaced by a folder, and no file names another place to fetch from."""
    for folder in {one.module for one in GO_PROGRAMS.values()}:
        text = (folder / "go.mod").read_text()
        assert "=> ." not in text
        assert "=> /" not in text
        assert "://" not in text
        assert (folder / "go.sum").stat().st_size
