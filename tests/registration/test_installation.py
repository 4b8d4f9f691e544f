# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What a wheel and an editable install put into an environment, what start-up costs, what an uninstall leaves."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import anomalib_zsad

ROOT = Path(__file__).parents[2]
BOOT = {"_anomalib_zsad_autoload.py", "anomalib_zsad.pth", "anomalib_zsad.start"}
ARMED = "import sys; print(any(type(f).__module__ == '_anomalib_zsad_autoload' for f in sys.meta_path))"
MODULES = "import sys; print(*sys.modules)"


def ours(environment) -> set[str]:
    return {str(path.relative_to(environment.packages)) for path in environment.packages.rglob("*zsad*")}


def test_the_wheel_holds_the_package_its_data_and_the_boot_files(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    info = f"anomalib_zsad-{anomalib_zsad.__version__}.dist-info"
    top = {name.partition("/")[0] for name in names}
    assert top == BOOT | {"anomalib_zsad", info}
    ignored = {"__pycache__"}
    files = [path for path in (ROOT / "anomalib_zsad").rglob("*") if path.is_file() and not ignored & {*path.parts}]
    assert {str(path.relative_to(ROOT).as_posix()) for path in files} <= names
    assert "anomalib_zsad/py.typed" in names
    assert f"{info}/licenses/LICENSE" in names


def test_the_source_distribution_holds_all_that_its_tests_read(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path], cwd=ROOT, check=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    folders = (".ci", "benchmarks", "configs", "docs", "notebooks", "tests")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    files = [path for path in files if "__pycache__" not in path.parts and path.suffix != ".pyc"]
    assert {path.relative_to(ROOT).as_posix() for path in files} <= names
    assert {"CITATION.cff", "LICENSE", "README.md", "pyproject.toml"} <= names


def test_an_interpreter_without_anomalib_loads_the_boot_module_only(installed, environment) -> None:
    added = {*installed.output("-c", MODULES).split()} - {*environment.output("-c", MODULES).split()}
    assert added == {"_anomalib_zsad_autoload"}
    assert installed.output("-c", ARMED).strip() == "True"
    assert installed.output("-c", ARMED, ANOMALIB_ZSAD_AUTOLOAD="0").strip() == "False"


def test_start_up_costs_less_than_a_millisecond(installed) -> None:
    def microseconds() -> int:
        log = installed.run("-X", "importtime", "-c", "pass").stderr
        return int(re.search(r"\|\s*(\d+) \|\s*_anomalib_zsad_autoload", log)[1])

    assert min(microseconds() for _ in range(5)) < 1000


def test_the_start_file_names_what_the_path_file_calls() -> None:
    """Python 3.15 reads `anomalib_zsad.start` in place of the import line of `anomalib_zsad.pth` (PEP 829)."""
    module, function = (ROOT / "anomalib_zsad.start").read_text().strip().split(":")
    assert (ROOT / "anomalib_zsad.pth").read_text() == f"import {module}; {module}.{function}()\n"


def test_an_editable_install_is_armed_and_uses_the_checkout(environment) -> None:
    environment.install("--editable", ROOT)
    assert environment.output("-c", ARMED).strip() == "True"
    assert environment.output("-c", "import anomalib_zsad as z; print(z.__file__)").strip() == anomalib_zsad.__file__
    environment.pip("uninstall", "--yes", "anomalib-zsad")
    assert ours(environment) == set()


def test_an_uninstall_leaves_nothing(environment, wheel: Path) -> None:
    before = {*environment.packages.rglob("*")}
    environment.install(wheel)
    environment.output("-c", "import anomalib_zsad")  # byte code is part of what must go
    assert ours(environment) >= BOOT
    environment.pip("uninstall", "--yes", "anomalib-zsad")
    assert {*environment.packages.rglob("*")} == before
    done = environment.run("-c", ARMED)
    assert (done.stdout.strip(), done.stderr) == ("False", "")
