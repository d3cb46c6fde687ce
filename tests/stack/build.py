"""Builds the programs of the test stack, each once, and says where they are.

A program is kept in `CACHE/NAME/VERSION-GOOS-GOARCH-HASH/NAME`, where the hash covers all that
decides what comes out: its `go.mod` and `go.sum`, the collector's manifest, and how it is built; or
the packages of a program in Python, and which Python runs it. It is put there when it is finished,
so what is there can be run.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "BUILD_COMMAND",
    "COLLECTOR",
    "GO_PROGRAMS",
    "PROGRAMS",
    "Program",
    "PythonProgram",
    "StackError",
    "build",
    "cache",
    "lock_collector",
    "tied",
]

HERE = Path(__file__).parent
COLLECTOR = HERE.parents[1] / "collector"
BUILDER = HERE / "go" / "builder"

BUILD_COMMAND = "python -m tests.stack build"
#: Where the programs are kept, instead of the user's cache folder. The library's own prefix,
#: `OTEL_PIPELINE_`, would make it warn of a variable that it does not know.
CACHE_VARIABLE = "OTEL_PIPELINE_STACK_CACHE"

# Nothing of this machine's folders is in the program, the modules are those that are committed, and
# it has no symbols for debuggers, which would be half of it.
_FLAGS = ("-trimpath", "-mod=readonly")
_LDFLAGS = "-s -w"
_COMMENT = re.compile(rb"^\s*(?:#|//).*\n", re.MULTILINE)
_SECONDS_BETWEEN_SIGNS_OF_LIFE = 60
_LINES_OF_AN_ERROR = 25
_GO_IS_MISSING = (
    "there is no `go` on PATH. Install Go 1.26 or newer (https://go.dev/doc/install); an older one "
    "from 1.21 on will do where it may fetch the newer one (GOTOOLCHAIN=auto)"
)
_PIP_FAILED = (
    "Packages come from where `pip config list` says; is that reached? Run the same command again "
    "to start anew."
)
_GO_FAILED = (
    "Modules come from where `go env GOPROXY` says; is that reached? What was built is kept: run "
    "the same command again to go on from here."
)


class StackError(Exception):
    """The stack cannot be built or started; the message says why, and what to do."""


@dataclass(frozen=True)
class Program:
    """A program of the stack in Go: what it is built from, and where it is kept."""

    name: str
    module: Path  # the folder with go.mod and go.sum
    source: str  # the Go module that it is versioned by
    package: str  # within the source; of the collector there is one only when it was generated
    version_variable: str = ""  # the Go variable that takes the version
    tags: str = ""

    @property
    def version(self) -> str:
        """The version in `go.mod`, without `v`."""
        match = re.search(
            rf"^\s*(?:require )?{re.escape(self.source)} v(\S+)", self._go_mod, re.MULTILINE
        )
        if match is None:
            raise StackError(f"{self.module / 'go.mod'} does not name {self.source}")
        return match[1]

    @property
    def path(self) -> Path:
        """Where the program is when it was built."""
        return cache() / self.name / f"{self.version}-{_target()}-{self._hash}" / self.name

    @property
    def manifest(self) -> Path | None:
        """What the Collector Builder makes the program's source from, if it does."""
        return None if self.package else self.module / "builder.yaml"

    @property
    def arguments(self) -> list[str]:
        """What `go build` is told about this program."""
        ldflags = _LDFLAGS
        if self.version_variable:
            ldflags += f" -X {self.version_variable}={self.version}"
        package = f"{self.source}/{self.package}" if self.package else "."
        return [*_FLAGS, f"-tags={self.tags}", f"-ldflags={ldflags}", package]

    @property
    def _go_mod(self) -> str:
        try:
            return (self.module / "go.mod").read_text(encoding="utf-8")
        except OSError as error:
            raise StackError(f"no checkout to build {self.name} from: {error}") from error

    @property
    def _hash(self) -> str:
        digest = hashlib.sha256("\0".join(self.arguments).encode())
        files = [self.module / "go.mod", self.module / "go.sum"]
        if self.manifest is not None:
            files += [self.manifest, BUILDER / "go.mod", BUILDER / "go.sum"]
        for file in files:
            digest.update(b"\0" + _COMMENT.sub(b"", file.read_bytes()))
        return digest.hexdigest()[:12]


@dataclass(frozen=True)
class PythonProgram:
    """A program of the stack in Python, in a virtual environment of its own.

    What it needs would not go with what the tests need.
    """

    name: str
    packages: Path  # each with its version, in the form of pip's requirements
    source: str  # the package that it is versioned by
    script: str  # what the package calls the program

    @property
    def version(self) -> str:
        """The version in the list of packages."""
        match = re.search(rf"^{re.escape(self.source)}==(\S+)$", self._text, re.MULTILINE)
        if match is None:
            raise StackError(f"{self.packages} does not name {self.source}")
        return match[1]

    @property
    def path(self) -> Path:
        """Where the program is when it was built."""
        known = f"{_base_python()}\n{sys.version}\n{self._text}"
        digest = hashlib.sha256(known.encode())
        folder = f"{self.version}-{_target()}-{digest.hexdigest()[:12]}"
        return cache() / self.name / folder / self.name

    @property
    def _text(self) -> str:
        try:
            return self.packages.read_text(encoding="utf-8")
        except OSError as error:
            raise StackError(f"no checkout to build {self.name} from: {error}") from error


def _base_python() -> str:
    """Return the Python outside of any virtual environment, as one may go away before the cache."""
    return str(getattr(sys, "_base_executable", sys.executable))


def _tool(name: str, module: str, source: str, package: str, **more: str) -> Program:
    return Program(name, HERE / "go" / module, source, package, **more)


_PROMETHEUS = "github.com/prometheus/prometheus"
_ALERTMANAGER = "github.com/prometheus/alertmanager"
_LOKI = "github.com/grafana/loki/v3"
_JAEGER = "github.com/jaegertracing/jaeger"
_COMMON_VERSION = "github.com/prometheus/common/version.Version"
# Service discovery in clouds is half of Prometheus, and of no use on one machine.
_NO_DISCOVERY = {"version_variable": _COMMON_VERSION, "tags": "remove_all_sd"}

#: Those in Go by name, in the order in which they are built.
GO_PROGRAMS: Mapping[str, Program] = {
    program.name: program
    for program in (
        _tool("prometheus", "prometheus", _PROMETHEUS, "cmd/prometheus", **_NO_DISCOVERY),
        _tool("promtool", "prometheus", _PROMETHEUS, "cmd/promtool", **_NO_DISCOVERY),
        _tool(
            "alertmanager",
            "alertmanager",
            _ALERTMANAGER,
            "cmd/alertmanager",
            version_variable=_COMMON_VERSION,
        ),
        _tool(
            "amtool", "alertmanager", _ALERTMANAGER, "cmd/amtool", version_variable=_COMMON_VERSION
        ),
        _tool(
            "jaeger",
            "jaeger",
            _JAEGER,
            "cmd/all-in-one",
            version_variable=f"{_JAEGER}/internal/version.latestVersion",
        ),
        _tool(
            "loki",
            "loki",
            _LOKI,
            "cmd/loki",
            version_variable=f"{_LOKI}/pkg/util/build.Version",
        ),
        _tool(
            "pint",
            "pint",
            "github.com/cloudflare/pint",
            "cmd/pint",
            version_variable="main.version",
        ),
        Program("otelcol", COLLECTOR, "go.opentelemetry.io/collector/otelcol", ""),
    )
}

#: All programs by name, in the order in which they are built.
PROGRAMS: Mapping[str, Program | PythonProgram] = {
    **GO_PROGRAMS,
    "ddapm": PythonProgram(
        "ddapm", HERE / "python" / "ddapm.txt", "ddapm-test-agent", "ddapm-test-agent"
    ),
}


def cache() -> Path:
    """Return the folder in which the programs are kept."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    outer = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The specification of XDG has relative paths ignored.
    return (outer if outer.is_absolute() else Path.home() / ".cache") / "otel_pipeline" / "stack"


def build(
    names: Sequence[str] = (), *, jobs: int | None = None, keep_go_caches: bool = False
) -> None:
    """Build the named programs, or all, that are not there yet; tell on stdout what happens.

    What Go fetches and compiles is kept in a folder of the cache until the programs of one module
    are there. Modules share little, as each has versions of its own, and together they would need
    12 GB. Folders that GOCACHE and GOMODCACHE name are used instead, and left alone.

    Args:
        names: Names of programs.
        jobs: How many commands Go runs at once; by default as many as there are processors.
        keep_go_caches: Keep what Go fetched and compiled, for the next build.

    Raises:
        StackError: Go is missing or failed.
    """
    programs = [program for name, program in PROGRAMS.items() if not names or name in names]
    with _lock():
        go = _Go(jobs)
        for number, program in enumerate(programs, 1):
            label = f"[{number}/{len(programs)}] {program.name} {program.version}"
            if program.path.exists():
                _say(f"{label}: is there: {program.path}")
            else:
                _say(f"{label}: is being built")
                start = time.monotonic()
                if isinstance(program, PythonProgram):
                    _install(program)
                else:
                    _build(program, go)
                took = f"{time.monotonic() - start:.0f} s"
                size = f"{_size(program) / 1e6:.0f} MB"
                _say(f"{label}: built in {took}, {size}: {program.path}")
            to_come = {_module(later) for later in programs[number:]}
            if _module(program) not in to_come and not keep_go_caches:
                go.delete_caches()


def tied(command: Sequence[str], signal_name: str) -> list[str]:
    """Return a command that the kernel ends with a signal when the thread that starts it ends."""
    setpriv = shutil.which("setpriv")
    prefix = [] if setpriv is None else [setpriv, "--pdeathsig", signal_name, "--"]
    return [*prefix, *command]


def lock_collector() -> None:
    """Name anew the exact modules of the collector, after a change of its manifest.

    Raises:
        StackError: Go or the Collector Builder is missing or failed.
    """
    with _lock():
        go = _Go(None)
        with _work_folder() as work:
            _run_builder(go, COLLECTOR / "builder.yaml", work, resolve=True)
            for name in ("go.mod", "go.sum"):
                shutil.copyfile(work / "source" / name, COLLECTOR / name)
        go.delete_caches()


def _build(program: Program, go: _Go) -> None:
    with _work_folder() as work:
        folder = program.module
        if program.manifest is not None:
            folder = _run_builder(go, program.manifest, work)
            for name in ("go.mod", "go.sum"):
                shutil.copyfile(program.module / name, folder / name)
        go.run("build", "-o", str(work / program.name), *program.arguments, folder=folder)
        program.path.parent.mkdir(parents=True, exist_ok=True)
        (work / program.name).rename(program.path)


def _module(program: Program | PythonProgram) -> Path | None:
    """Return the Go module of a program, if it has one."""
    return program.module if isinstance(program, Program) else None


def _size(program: Program | PythonProgram) -> int:
    if isinstance(program, Program):
        return program.path.stat().st_size
    return sum(file.lstat().st_size for file in program.path.parent.rglob("*"))


def _install(program: PythonProgram) -> None:
    """Make the virtual environment of a program; the program's own name comes last."""
    # It knows where it is, so it is made where it stays. An earlier try may have left a part.
    folder = program.path.parent
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    venv = folder / "venv"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for command in (
        [_base_python(), "-m", "venv", str(venv)],
        [
            str(venv / "bin" / "python"),
            *("-m", "pip", "install", "--quiet", "--no-input", "--no-deps"),
            f"--requirement={program.packages}",
        ],
    ):
        _run_well(command, folder, environ, _PIP_FAILED)
    program.path.symlink_to(venv / "bin" / program.script)


def _run_builder(go: _Go, manifest: Path, work: Path, *, resolve: bool = False) -> Path:
    """Make the collector's source, and with `resolve` its `go.mod`; return its folder."""
    builder, copy, source = work / "builder", work / "builder.yaml", work / "source"
    go.run("build", "-o", str(builder), *_FLAGS, _builder_package(), folder=BUILDER)
    # The builder takes the folder to write to from the manifest only.
    text, found = re.subn(
        r"^  output_path: .*$",
        lambda _: f"  output_path: {source}",
        manifest.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    if found != 1:
        raise StackError(f"{manifest} has no line `  output_path: …`")
    copy.write_text(text, encoding="utf-8")
    options = ["--skip-compilation", *([] if resolve else ["--skip-get-modules"])]
    go.run_other(builder, f"--config={copy}", *options, folder=work)
    return source


def _builder_package() -> str:
    return "go.opentelemetry.io/collector/cmd/builder"


class _Go:
    """The `go` command, with caches that go away when all is built."""

    def __init__(self, jobs: int | None) -> None:
        self._caches = {
            name: cache() / ".go" / name.lower()
            for name in ("GOCACHE", "GOMODCACHE")
            if not os.environ.get(name)
        }
        given = {
            # What is built runs here, whatever else this machine builds.
            name: value
            for name, value in os.environ.items()
            if name not in {"GOOS", "GOARCH", "GOEXPERIMENT", "GOWORK"}
        }
        self._environ = {
            **given,
            **{name: str(path) for name, path in self._caches.items()},
            "CGO_ENABLED": "0",
            "GOWORK": "off",
            # A checkout may be no repository of git's, and what was fetched can be deleted.
            "GOFLAGS": "-buildvcs=false -modcacherw",
        }
        if jobs is not None:
            self._environ["GOMAXPROCS"] = str(jobs)
        self._jobs = jobs

    def run(self, command: str, *arguments: str, folder: Path) -> None:
        go = shutil.which("go")
        if go is None:
            raise StackError(_GO_IS_MISSING)
        jobs = [] if self._jobs is None else [f"-p={self._jobs}"]
        self.run_other(Path(go), command, *jobs, *arguments, folder=folder)

    def run_other(self, program: Path, *arguments: str, folder: Path) -> None:
        """Run a program with Go's environment, and now and then say that it still runs."""
        _run_well([str(program), *arguments], folder, self._environ, _GO_FAILED)

    def delete_caches(self) -> None:
        for path in self._caches.values():
            shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            (cache() / ".go").rmdir()


def _run_well(command: list[str], folder: Path, environ: dict[str, str], remedy: str) -> None:
    """Run a command that must succeed, and now and then say that it still runs.

    Raises:
        StackError: It failed; the message has the end of what it said, and the remedy.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        status = _run(command, folder, environ, output.fileno())
        if status:
            output.seek(0)
            end = "".join(output.readlines()[-_LINES_OF_AN_ERROR:])
            program, *arguments = command
            said = f"`{Path(program).name} {' '.join(arguments)}` in {folder} ended with {status}"
            raise StackError(f"{said}; the end of what it said:\n{end}\n{remedy}")


def _run(command: list[str], folder: Path, environ: dict[str, str], output: int) -> int:
    # In a session of its own, so that the compilers that it starts can be ended with it.
    with subprocess.Popen(
        tied(command, "KILL"),
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    ) as process:
        start = time.monotonic()
        try:
            while True:
                try:
                    return process.wait(_SECONDS_BETWEEN_SIGNS_OF_LIFE)
                except subprocess.TimeoutExpired:
                    _say(f"  … for {(time.monotonic() - start) / 60:.0f} min")
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """Keep other builds out, and clear away what one that was killed has left."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another build runs; waiting for its end")
            fcntl.flock(file, fcntl.LOCK_EX)
        shutil.rmtree(cache() / ".work", ignore_errors=True)
        yield


@contextlib.contextmanager
def _work_folder() -> Iterator[Path]:
    """Make a folder on the disk of the cache, so that what is built in it can be moved there."""
    outer = cache() / ".work"
    outer.mkdir()
    try:
        # A name that no other build had: what is left of a killed one may still be writing.
        yield Path(tempfile.mkdtemp(dir=outer))
    finally:
        shutil.rmtree(outer, ignore_errors=True)


def _target() -> str:
    machine = platform.machine().lower()
    goarch = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    return f"{platform.system().lower()}-{goarch}"


def _say(line: str) -> None:
    print(line, file=sys.stdout, flush=True)
