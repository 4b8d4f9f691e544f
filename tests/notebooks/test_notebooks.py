# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The notebooks run from top to bottom without a network, and what is stored in them is fit to be shown."""

import base64
import os
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs nbclient and ipykernel, which the extra `test` brings")
nbclient = pytest.importorskip("nbclient")
manager = pytest.importorskip("jupyter_client.manager")

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MACHINE = re.compile(r"(?:/(?:tmp|home|root|work|opt|usr|var|mnt|Users|private)/|[A-Z]:\\\\|site-packages)")


def read(path: Path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def texts(notebook) -> str:
    """All that the outputs say."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    said = [output.get("text", "") for output in outputs]
    data = [(kind, str(value)) for output in outputs for kind, value in output.get("data", {}).items()]
    return "\n".join([*said, *(value for kind, value in data if not kind.startswith("image/"))])


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory):
    """One kernel for all, whose names are deleted in between: importing anomalib takes most of ten seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")  # no model hub; without this, asking takes a minute
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        owner, client = manager.start_new_kernel(kernel_name="python3")
    client.stop_channels()
    yield owner
    owner.shutdown_kernel(now=True)


def test_there_are_five() -> None:
    assert [path.name[0] for path in NOTEBOOKS] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_its_outputs_name_no_folder_of_the_machine(path: Path, kernel, tmp_path: Path) -> None:
    notebook = read(path)
    start = f"%reset -f\nimport os; os.chdir({str(tmp_path)!r})"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(start))
    nbclient.NotebookClient(notebook, km=kernel, timeout=300).execute()
    said = texts(notebook)
    assert str(tmp_path) not in said
    assert "Traceback" not in said


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored_is_complete_small_and_of_no_machine(path: Path) -> None:
    notebook = read(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)], "run it from top to bottom, then save"
    outputs = [output for cell in code for output in cell.outputs]
    assert all(output.output_type != "error" for output in outputs)
    assert all(output.get("name") != "stderr" for output in outputs), "warnings are nobody's business"
    assert not MACHINE.search(texts(notebook))
    assert not MACHINE.search("\n".join(cell.source for cell in notebook.cells))
    assert notebook.metadata.keys() <= {"kernelspec", "language_info"}
    assert all(not cell.metadata for cell in notebook.cells)
    images = [data for output in outputs for kind, data in output.get("data", {}).items() if kind.startswith("image/")]
    assert images
    assert max(len(base64.b64decode(data)) for data in images) < 60_000
    assert path.stat().st_size < 200_000
