"""Older servers for the test stack, out of Debian's packages: fetched once, and not installed.

A package is unpacked into `CACHE/NAME/VERSION-ARCHITECTURE`. It is put there when it is finished,
so what is there can be run.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.stack.build import StackError, cache

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PACKAGES", "Package"]

_SECONDS_TO_FETCH = 300
_COMMANDS = ("apt-get", "dpkg-deb")


@dataclass(frozen=True)
class Package:
    """A package of Debian, and the program in it."""

    name: str
    package: str
    version: str  # as far as it is promised; Debian adds its own revision
    program: str  # its path in the package
    #: A folder under `/usr` from which the program reads, and which is not there, as nothing is
    #: installed. The program is changed to read from `.usr` in the folder in which it runs.
    reads: str = ""

    @property
    def path(self) -> Path:
        """Where the program is when the package was unpacked."""
        return self.folder / self.program

    @property
    def folder(self) -> Path:
        """Where the package is unpacked."""
        changed = "-moved" if self.reads else ""
        return cache() / self.name / f"{self.version}-{platform.machine().lower()}{changed}"

    def tool(self, name: str) -> Path:
        """Return where a program is that comes with this one."""
        return self.path.parent / name

    def bring(self, folder: Path) -> None:
        """Copy what the program reads into the folder in which it is to run."""
        if self.reads:
            shutil.copytree(self.folder / self.reads, folder / f".{self.reads}")

    def fetch(self) -> None:
        """Fetch the package and unpack it, if it is not there.

        Raises:
            StackError: There is no apt, it fails, or it has another version.
        """
        if self.path.exists():
            return
        absent = [command for command in _COMMANDS if shutil.which(command) is None]
        if absent:
            raise StackError(f"{self.name} is a package of Debian, and there is no {absent[0]}")
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=self.folder.parent))
        try:
            _run("apt-get", "-qq", "download", self.package, folder=work)
            (archive,) = work.glob("*.deb")
            said = _run("dpkg-deb", "--field", str(archive), "Version", folder=work).strip()
            if not said.startswith(self.version):
                raise StackError(f"apt has {self.package} {said}, and not {self.version}")
            content = work / "content"
            _run("dpkg-deb", "--extract", str(archive), str(content), folder=work)
            if self.reads:
                program = content / self.program
                code = program.read_bytes()
                program.write_bytes(
                    code.replace(f"/{self.reads}".encode(), f".{self.reads}".encode())
                )
            content.rename(self.folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _run(*command: str, folder: Path) -> str:
    try:
        result = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS_TO_FETCH,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(f"`{' '.join(command)}` takes too long") from error
    if result.returncode:
        raise StackError(
            f"`{' '.join(command)}` ended with {result.returncode}: {result.stderr.strip()}\n"
            "Does apt know its packages? `apt-get update` fetches their list."
        )
    return result.stdout


#: The packages by name. They are built only when they are named.
PACKAGES: Mapping[str, Package] = {
    package.name: package
    for package in (
        Package("prometheus-debian", "prometheus", "2.42", "usr/bin/prometheus"),
        Package(
            "alertmanager-debian",
            "prometheus-alertmanager",
            "0.25",
            "usr/bin/prometheus-alertmanager",
            reads="usr/share/prometheus/alertmanager",
        ),
    )
}
