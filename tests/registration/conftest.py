# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Virtual environments made in a moment: the package is installed, the others come from the running one."""

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


class Environment:
    """A virtual environment that sees the packages of the running interpreter, but runs none of its `.pth` files.

    With `distributions`, it holds links to these and sees no others.
    """

    def __init__(self, path: Path, distributions: Iterable[str] | None = None) -> None:
        venv.create(path, symlinks=os.name != "nt")
        scheme = "nt" if os.name == "nt" else "posix_prefix"  # "venv" has this name from Python 3.11 only
        paths = sysconfig.get_paths(scheme, {"base": str(path), "platbase": str(path)})
        self.python = Path(paths["scripts"]) / Path(sys.executable).name
        self.packages = Path(paths["purelib"])
        self.command = self.python.with_name("anomalib-zsad")
        if distributions is None:
            here = [entry for entry in sys.path if Path(entry).name in {"site-packages", "dist-packages"}]
            (self.packages / "running_environment.pth").write_text("\n".join(here))
        else:
            for name in distributions:
                self._link(metadata.distribution(name))
        self.working_directory = path

    def _link(self, distribution: metadata.Distribution) -> None:
        for name in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (self.packages / name).exists():  # namespaces are shared
                (self.packages / name).symlink_to(distribution.locate_file(name))

    def run(self, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "ANOMALIB_ZSAD_AUTOLOAD"}}
        return subprocess.run(
            [self.python, *args],
            env=inherited | environ,
            cwd=self.working_directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def output(self, *args: str, **environ: str) -> str:
        done = self.run(*args, **environ)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def pip(self, *args: str | Path) -> None:
        pip = [sys.executable, "-m", "pip", "--python", self.python, "--disable-pip-version-check", "--quiet", *args]
        done = subprocess.run(pip, cwd=self.working_directory, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr

    def install(self, *what: str | Path) -> None:
        # What the running environment has, this package included, counts as installed here unless it is ignored.
        self.pip("install", "--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed", *what)


@cache
def _requirements(name: str, wheel: Path) -> list[Requirement]:
    found = next(iter(metadata.distributions(name=name, path=[str(wheel), *sys.path])), None)
    return [] if found is None else [Requirement(text) for text in found.requires or ()]


def brought_by(wheel: Path, *extras: str) -> set[str]:
    """What pip would install with the wheel and these extras of it, by the metadata of what is installed here."""
    todo = [("anomalib-zsad", extra) for extra in ("", *extras)]
    seen = set(todo)
    while todo:
        name, extra = todo.pop()
        for requirement in _requirements(name, wheel):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                new = {(canonicalize_name(requirement.name), extra) for extra in ("", *requirement.extras)} - seen
                todo += new
                seen |= new
    return {name for name, _ in seen} - {"anomalib-zsad"}


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """An environment without the package."""
    return Environment(tmp_path)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pip")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel; not to be changed."""
    environment = Environment(tmp_path_factory.mktemp("installed"))
    environment.install(wheel)
    return environment
