"""What the installed package promises: names, version, dependencies, and a light import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import distribution, distributions, entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import otel_pipeline
from scripts import lowest_versions

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "otel-pipeline"
PACKAGE = Path(otel_pipeline.__file__).parent
MODULES = {
    path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(PACKAGE.rglob("*.py"))
}
#: What importing the library must not import: it is slow, or belongs to whoever configures.
HEAVY = ("grpc", "opentelemetry.exporter", "opentelemetry.sdk", "prometheus_client", "requests")
#: The parts of the package that may import the SDK.
SDK_SIDE = ("cli/", "local/", "sdk/", "testing.py")
#: What the script that pip installs does.
COMMAND = "import sys; from otel_pipeline.cli import main; sys.exit(main())"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imports(node: ast.AST) -> Iterator[str]:
    """Yield the absolute imports under `node` that happen when the code runs."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and not child.level:
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        yield from imports(child)


def imports_of(source: str) -> list[str]:
    return list(imports(ast.parse(source)))


@pytest.fixture(scope="module")
def owners() -> dict[str, str]:
    """Map each installed module to the distribution that it comes from."""
    return {
        ".".join(file.with_suffix("").parts).removesuffix(".__init__"): normal(installed.name)
        for installed in distributions()
        for file in installed.files or ()
        if file.suffix == ".py"
    }


def owner(name: str, owners: dict[str, str]) -> str | None:
    """Return the distribution of a dotted name, or None for the standard library and our own."""
    while name and name not in owners:
        name = name.rpartition(".")[0]
    return owners.get(name)


def test_the_installed_version_is_the_one_in_the_source() -> None:
    """The metadata and `__version__` agree."""
    assert distribution(NAME).version == otel_pipeline.__version__


def test_the_package_is_marked_as_typed() -> None:
    """Type checkers read the annotations of the installed package."""
    assert (PACKAGE / "py.typed").is_file()
    assert "Typing :: Typed" in (distribution(NAME).metadata.get_all("Classifier") or [])


@pytest.mark.parametrize(
    ("group", "name"), [("console_scripts", "otel-pipeline"), ("pytest11", "otel_pipeline")]
)
def test_an_entry_point_loads(group: str, name: str) -> None:
    """The command and the pytest plugin are found under their names."""
    (entry,) = entry_points(group=group, name=name)
    assert entry.load()


@pytest.mark.parametrize("command", [["-m", "otel_pipeline"], ["-c", COMMAND]])
def test_the_command_runs(command: list[str]) -> None:
    """`otel-pipeline` and `python -m otel_pipeline` are the same command."""
    output = subprocess.run(
        [sys.executable, *command, "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert otel_pipeline.__version__ in output


def test_the_plugin_is_there_without_any_set_up(tmp_path: Path) -> None:
    """A project that has the library installed can use `otel_capture` at once."""
    (tmp_path / "test_user.py").write_text("def test_it(otel_capture):\n    assert otel_capture\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_user.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_importing_the_library_imports_nothing_heavy() -> None:
    """No SDK, exporter, gRPC, HTTP client or prometheus_client comes with the import."""
    program = "import sys, otel_pipeline; print(*sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert [name for name in output.split() if name.startswith(HEAVY)] == []


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith(SDK_SIDE)])
def test_only_the_sdk_side_imports_the_sdk(module: str) -> None:
    """`opentelemetry.sdk` and the exporters are imported by `sdk/`, commands and test helpers."""
    names = imports_of(MODULES[module])
    sdk = ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto")
    assert [name for name in names if name.startswith(sdk)] == []


@pytest.mark.parametrize("module", MODULES)
def test_what_a_module_imports_is_declared(module: str, owners: dict[str, str]) -> None:
    """No import relies on what another dependency happens to bring along."""
    requirements = distribution(NAME).requires or []
    declared = {normal(re.split(r"[^\w.-]", line)[0]) for line in requirements} | {NAME, None}
    found = {name: owner(name, owners) for name in imports_of(MODULES[module])}
    assert {name: who for name, who in found.items() if who not in declared} == {}


def test_every_dependency_has_a_lower_bound() -> None:
    """The lowest versions, with which CI tests, follow from the requirements."""
    for requirement in lowest_versions.requirements():
        assert lowest_versions.lowest(requirement)


@pytest.mark.parametrize("requirement", ["structlog", "structlog==24.1", "structlog>24"])
def test_a_requirement_without_a_lower_bound_is_refused(requirement: str) -> None:
    """A requirement whose lowest version is not known stops CI."""
    with pytest.raises(ValueError, match="needs the form"):
        lowest_versions.lowest(requirement)
