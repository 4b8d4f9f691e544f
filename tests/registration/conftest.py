# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Virtual environments made in a moment: the package is installed, everything else comes from the running one."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class Environment:
    """A virtual environment that sees the packages of the running interpreter, but runs none of its `.pth` files."""

    def __init__(self, path: Path) -> None:
        venv.create(path, symlinks=os.name != "nt")
        scheme = "nt" if os.name == "nt" else "posix_prefix"  # "venv" has this name from Python 3.11 only
        paths = sysconfig.get_paths(scheme, {"base": str(path), "platbase": str(path)})
        self.python = Path(paths["scripts"]) / Path(sys.executable).name
        self.packages = Path(paths["purelib"])
        here = [entry for entry in sys.path if Path(entry).name in {"site-packages", "dist-packages"}]
        (self.packages / "running_environment.pth").write_text("\n".join(here))
        self.working_directory = path

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


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """An environment without the package."""
    return Environment(tmp_path)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pip")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    offline = ("--no-index", "--no-deps", "--no-build-isolation")
    Environment(folder / "builder").pip("wheel", *offline, "--wheel-dir", folder, ROOT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel; not to be changed."""
    environment = Environment(tmp_path_factory.mktemp("installed"))
    environment.install(wheel)
    return environment
