# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""When the hook fires: every order of imports, with our own boot, catalogue and plugin.

Only the classes on both sides are empty here, because the real ones take seconds to import; they come in
`test_registration.py`. The interpreter runs with `-S`, so that a package installed around it has no part in this.
"""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import anomalib_zsad

ROOT = Path(anomalib_zsad.__file__).parents[1]
EVERYTHING = {*anomalib_zsad.MODELS, *anomalib_zsad.DATAMODULES}
ONE_OF_EACH = {source: name for name, source in (anomalib_zsad.MODELS | anomalib_zsad.DATAMODULES).items()}.values()
"""A class of every module."""

# As in the real one: models import data, engine imports both, and all of them import things that import each other.
ANOMALIB = {
    "anomalib/__init__.py": "",
    "anomalib/data/__init__.py": "class AnomalibDataModule: ...",
    "anomalib/models/__init__.py": """
        import anomalib.data
        ALLOWED_MODULES = {"anomalib.models"}
        class AnomalibModule: ...
        """,
    "anomalib/metrics.py": """
        import anomalib.data
        class Evaluator: ...
        """,
    "anomalib/old.py": """
        import warnings
        warnings.warn("old", FutureWarning, stacklevel=2)
        """,
    "anomalib/engine.py": """
        from anomalib.metrics import Evaluator
        from anomalib.models import AnomalibModule
        class Engine: ...
        """,
}
REPORT = """
import sys, threading
def registered():
    hosts = [vars(sys.modules[name]) for name in ("anomalib.models", "anomalib.data") if name in sys.modules]
    return {name for name in everything for host in hosts if name in host}
def armed():
    return any(type(finder).__module__ == "_anomalib_zsad_autoload" for finder in sys.meta_path)
"""


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(textwrap.dedent(text))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    write(tmp_path, ANOMALIB)
    (tmp_path / "anomalib_zsad").mkdir()
    for name in (
        "_anomalib_zsad_autoload",
        *(f"anomalib_zsad/{name}" for name in ("__init__", "plugin", "requirements")),
    ):
        shutil.copy(ROOT / f"{name}.py", tmp_path / f"{name}.py")
    # What all of ours share imports anomalib, so each of our modules may be the one that imports it first.
    write(tmp_path, {"anomalib_zsad/calibration.py": "from anomalib.metrics import Evaluator\nclass Calibration: ..."})
    write(tmp_path, {"anomalib_zsad/models/__init__.py": ""})
    sources = anomalib_zsad.MODELS | anomalib_zsad.DATAMODULES
    for source in set(sources.values()):
        classes = "".join(f"class {name}: ...\n" for name in sources if sources[name] == source)
        imports = "from anomalib_zsad.calibration import Calibration\nfrom anomalib.models import AnomalibModule\n"
        write(tmp_path, {f"{source.replace('.', '/')}/__init__.py": imports + classes})
    return tmp_path


def run(site: Path, code: str, *, start: bool = True, **environ: str) -> subprocess.CompletedProcess[str]:
    boot = (site / "boot.py", "import _anomalib_zsad_autoload; _anomalib_zsad_autoload.start()" if start else "")
    boot[0].write_text(boot[1])
    prelude = f"import boot\neverything = {EVERYTHING!r}\n{REPORT}"
    return subprocess.run(
        [sys.executable, "-S", "-c", prelude + textwrap.dedent(code)],
        cwd=site,
        env={k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "ANOMALIB_ZSAD_AUTOLOAD"}} | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "first",
    [
        "import anomalib.models",
        "import anomalib.engine",
        "import anomalib.data; import anomalib.models",
        "import anomalib.metrics; import anomalib.models",
        "import anomalib_zsad; assert not registered(); import anomalib.models",
        "import anomalib_zsad.calibration; import anomalib.models",
        "import anomalib_zsad.plugin; import anomalib.models",
        *(f"from anomalib_zsad import {name}; import anomalib.models" for name in ONE_OF_EACH),
        *(f"import {source}" for source in (anomalib_zsad.MODELS | anomalib_zsad.DATAMODULES).values()),
    ],
)
@pytest.mark.parametrize("start", [True, False], ids=["installed", "imported"])
def test_whatever_is_imported_first_everything_is_registered_once(site: Path, first: str, start: bool) -> None:
    """`imported` is an environment without start-up file, where `import anomalib_zsad` does it, early or late."""
    done = run(
        site,
        f"""
        {first}
        import anomalib_zsad
        assert registered() == everything, registered()
        assert "anomalib_zsad" in sys.modules["anomalib.models"].ALLOWED_MODULES
        assert not armed()
        for name, source in anomalib_zsad.MODELS.items():
            assert vars(sys.modules["anomalib.models"])[name] is getattr(anomalib_zsad, name)
            assert getattr(anomalib_zsad, name) is getattr(sys.modules[source], name)
        for name, module in sys.modules.items():
            if name.startswith("anomalib"):
                assert type(module.__loader__).__name__ == "SourceFileLoader", (name, module.__loader__)
                assert module.__spec__.loader is module.__loader__
        """,
        start=start,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_data_alone_get_the_datamodules(site: Path) -> None:
    classes = "\n".join(f"class {name}: ..." for name in anomalib_zsad.DATAMODULES)
    write(site, {"anomalib_zsad/data/__init__.py": classes})
    done = run(
        site,
        """
        import anomalib.data
        from anomalib_zsad import DATAMODULES
        assert all(hasattr(anomalib.data, name) for name in DATAMODULES) and "anomalib.models" not in sys.modules
        assert armed()
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_interpreter_without_anomalib_imports_nothing_of_ours(site: Path) -> None:
    code = "print(sorted(name for name in sys.modules if 'zsad' in name), armed())"
    assert run(site, code).stdout.strip() == "['_anomalib_zsad_autoload'] True"


def test_the_opt_out_holds_until_the_package_is_imported(site: Path) -> None:
    done = run(
        site,
        """
        import anomalib.engine
        assert not armed() and not registered() and "anomalib_zsad" not in sys.modules
        import anomalib_zsad
        assert registered() == everything
        """,
        ANOMALIB_ZSAD_AUTOLOAD="0",
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "fault",
    ["raise RuntimeError('no such drive')", "import a_package_that_is_not_there", "def broken(:", ""],
    ids=["raises", "import", "syntax", "class missing"],
)
def test_a_broken_class_costs_one_warning_and_nothing_else(site: Path, fault: str) -> None:
    broken, source = next(iter(anomalib_zsad.MODELS.items()))
    write(site, {f"{source.replace('.', '/')}/__init__.py": fault})
    done = run(
        site,
        """
        import anomalib.data, anomalib.metrics, anomalib.models, anomalib.engine
        import anomalib_zsad.plugin
        anomalib_zsad.plugin.register()
        print(*sorted(everything - registered()))
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [broken]
    assert len(done.stderr.splitlines()) == 1
    assert broken in done.stderr
    assert "Error" in done.stderr
    assert "ANOMALIB_ZSAD_AUTOLOAD=0" in done.stderr


def test_a_package_that_is_gone_costs_one_warning_and_nothing_else(site: Path) -> None:
    shutil.rmtree(site / "anomalib_zsad")
    done = run(site, "import anomalib.data, anomalib.metrics, anomalib.models, anomalib.engine; assert not armed()")
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "ModuleNotFoundError" in done.stderr
    assert "ANOMALIB_ZSAD_AUTOLOAD=0" in done.stderr


def test_an_error_of_anomalib_is_its_own_and_a_second_attempt_works(site: Path) -> None:
    write(site, {"anomalib/models/__init__.py": "import anomalib.data, a_package_that_is_not_there"})
    done = run(
        site,
        f"""
        try:
            import anomalib.models
        except ModuleNotFoundError as error:
            assert error.name == "a_package_that_is_not_there"
        with open("anomalib/models/__init__.py", "w") as file:
            file.write({textwrap.dedent(ANOMALIB["anomalib/models/__init__.py"])!r})
        import importlib, shutil
        importlib.invalidate_caches()
        shutil.rmtree("anomalib/models/__pycache__", ignore_errors=True)
        import anomalib.models
        print(*sorted(registered() & set({sorted(anomalib_zsad.MODELS)!r})))
        """,
    )
    assert done.stdout.split() == sorted(anomalib_zsad.MODELS), done.stderr


def test_a_name_that_anomalib_has_stays_its_own(site: Path) -> None:
    taken = next(iter(anomalib_zsad.MODELS))
    with (site / "anomalib/models/__init__.py").open("a") as file:
        file.write(f"\nclass {taken}: ...\n")
    code = f"import anomalib.models; print(anomalib.models.{taken}.__module__)"
    assert run(site, code).stdout.strip() == "anomalib.models"


def test_threads_that_import_it_at_once(site: Path) -> None:
    done = run(
        site,
        """
        sys.setswitchinterval(1e-5)
        threads = [threading.Thread(target=__import__, args=["anomalib.models"]) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert registered() == everything and not armed()
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_another_finder_that_delegates_as_ours_does(site: Path) -> None:
    done = run(
        site,
        """
        class Other:
            asking = False
            def find_spec(self, name, path=None, target=None):
                if self.asking: return None
                self.asking = True
                try:
                    return next(filter(None, (f.find_spec(name, path, target) for f in sys.meta_path)), None)
                finally:
                    self.asking = False
        sys.meta_path.insert(0, Other())
        import anomalib.models
        assert registered() == everything
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_warnings_of_anomalib_name_its_own_lines(site: Path) -> None:
    """A frame of ours between two imports would take the blame for what the first of them asks of the second."""
    with (site / "anomalib/models/__init__.py").open("a") as file:
        file.write("\nimport anomalib.old\n")
    done = run(site, "import anomalib.engine")
    assert "anomalib/models/__init__.py" in done.stderr
    assert "_anomalib_zsad_autoload" not in done.stderr
