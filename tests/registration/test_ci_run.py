# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""`.ci/run` on small READMEs: it runs the marked blocks as they stand, in a copy, and fails when one of them does."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "run"
README = """
# A project

```bash
echo not this one; exit 9
```

<!-- quickstart -->
One command installs and runs:

```bash
pwd > "$REPORT"
mkdir .venv
echo "first   of \\
two" >> "$REPORT"
```

```bash
echo nor this one; exit 9
```

<!-- tests -->
```bash
test -d .venv  # the second block finds what the first one made
cat pyproject.toml - >> "$REPORT"
```
"""

pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "a checkout"
    (root / ".ci").mkdir(parents=True)
    shutil.copy(SCRIPT, root / ".ci" / "run")
    (root / "pyproject.toml").write_text("a file of the checkout\n")
    (root / "README.md").write_text(README)
    return root


def run(checkout: Path) -> subprocess.CompletedProcess[str]:
    (checkout.parent / "temporary").mkdir()
    environ = {"REPORT": str(checkout.parent / "report"), "TMPDIR": str(checkout.parent / "temporary")}
    return subprocess.run(
        [checkout / ".ci" / "run"],
        cwd="/",
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", **environ},
        input="must not be read\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_both_blocks_run_in_one_copy_that_is_removed(checkout: Path) -> None:
    before = {*checkout.rglob("*")}
    done = run(checkout)
    assert (done.returncode, done.stderr) == (0, "")
    place, *lines = (checkout.parent / "report").read_text().splitlines()
    assert lines == ["first   of two", "a file of the checkout"]
    assert Path(place).is_relative_to(checkout.parent / "temporary")
    assert not any((checkout.parent / "temporary").iterdir())
    assert {*checkout.rglob("*")} == before
    assert 'pwd > "$REPORT"' in done.stdout


@pytest.mark.parametrize("failing", ["false", "false | true", "echo $NO_SUCH_VARIABLE", "exit 3"])
def test_a_command_that_fails_fails_the_run(checkout: Path, failing: str) -> None:
    (checkout / "README.md").write_text(README.replace("mkdir .venv", failing))
    done = run(checkout)
    assert done.returncode != 0
    assert "=== tests" not in done.stdout
    assert not any((checkout.parent / "temporary").iterdir())


@pytest.mark.parametrize("marker", ["quickstart", "tests"])
def test_a_missing_block_fails_the_run(checkout: Path, marker: str) -> None:
    (checkout / "README.md").write_text(README.replace(f"<!-- {marker} -->", ""))
    done = run(checkout)
    assert done.returncode != 0
    assert f"no bash block after the line <!-- {marker} -->" in done.stderr
