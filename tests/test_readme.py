# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Every fenced block of README.md and of the pages in docs/ and notebooks/ runs, in order, as a reader would type it.

Commands run through the real entry points, as they stand. What they need is there: photographs, a trained adapter,
miniature trees of the data sets. Only what :data:`EXTRA` and :data:`INSTEAD` say is different: published weights, whole
trainings. The two marked blocks of README.md run in `.ci/run`, word for word.
"""

import logging
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from packaging.requirements import Requirement

from tests.conftest import QUIET, paint_indexed_parts, paint_parts
from tests.data.field_trees import plant

ROOT = Path(__file__).resolve().parents[1]
SLOW = {"docs/deployment.md"}  # seven exports, three of them quantised
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "notebooks").glob("*.md"))]

SMALL = "--model.backbone tiny-random --model.image_size 56 --trainer.max_epochs 1 --trainer.limit_train_batches 2"
CPU = "--trainer.accelerator cpu --trainer.enable_progress_bar false --data.num_workers 0"

EXTRA = {
    "anomalib train --model PromptMoE --data ZeroShot --data.source Visa": (
        f"{SMALL} {CPU} --data.target_categories [bottle,cable]"
    ),
    "anomalib train --model PromptMoE --data ZeroShot --data.source Folder": f"{SMALL} {CPU}",
    "anomalib train --model PromptMoE --data ZeroShot --data.source SyntheticSurfaces": (
        f"{SMALL} {CPU} --data.target_categories [bottle,cable]"
        " --data.source.test_images 68 --data.source.image_size 56"
    ),
    "anomalib train --model PromptMoE --data SyntheticSurfaces": (
        f"{SMALL} {CPU} --data.train_images 16 --data.val_images 22 --data.test_images 12 --data.image_size 56"
    ),
    "anomalib export --model PromptMoE --model.weights promptmoe.safetensors --export_root acq": (
        "--data.source SyntheticSurfaces --data.source.train_images 32 --data.source.image_size 56"
    ),
    "anomalib-zsad benchmark deploy": "--formats onnx 'openvino INT8' --batches any",
    "anomalib-zsad benchmark speed": "--backbone tiny-random --image-size 56 --runs eager-f32 --repeat 1 --batch 1",
}
"""What is added to commands that begin so, which would otherwise want published weights and hours."""

STATUS = {"anomalib-zsad doctor data datasets/": 1}
"""Exit status other than 0: the miniature trees lack most images, and the doctor says so."""

INSTEAD = {
    "PromptMoE()": 'PromptMoE(backbone="tiny-random", image_size=56)',
    "train_batch_size=16)": 'train_batch_size=16, target_categories=["bottle"], num_workers=0)',
    "max_epochs=15": "max_epochs=1, limit_train_batches=2, accelerator='cpu', enable_progress_bar=False",
}
"""What is written in place of parts of Python blocks, for the same reason."""

CUT = {
    "seeds": [0],
    "methods": {"PromptMoE": {"init_args": {"epochs": 1}}},
    "common": {"backbone": "tiny-random", "image_size": 56},
    "data": {
        name: {"class_path": "SyntheticSurfaces", "init_args": {"image_size": 56, "test_images": 24, **groups}}
        for name, groups in {
            "seen surfaces": {"classes": ["wood"], "test_classes": ["wood"]},
            "unseen surfaces": {"classes": ["skin"], "test_classes": ["skin"]},
        }.items()
    },
}
"""What replaces the same keys in the copy of configs/benchmark/small.yaml."""


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    text: str
    marker: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, with the comment in front of them that marks two for `.ci/run`."""
    text = page.read_text(encoding="utf-8")
    fence = re.compile(r"(?:^<!-- (?P<marker>\w+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
    return [
        Block(page, text.count("\n", 0, found.start("text")), found["language"], found["text"], found["marker"] or "")
        for found in fence.finditer(text)
    ]


def commands(block: Block) -> list[list[str]]:
    """The words of each command, without comments."""
    said, variables = [], {}
    for line in block.text.replace("\\\n", " ").splitlines():
        line = re.sub(r"\$(\w+)", lambda found: variables[found[1]], line)
        words = shlex.split(line, comments=True)
        if len(words) == 1 and re.match(r"\w+=", words[0]):
            variables.update([words[0].split("=", 1)])
        elif words:
            said.append(words)
    return said


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One command, by the function that its console script calls."""
    name, said = words[0], shlex.join(words)
    words = [*words, *(word for start, extra in EXTRA.items() if said.startswith(start) for word in shlex.split(extra))]
    if name == "anomalib":
        from anomalib.cli.cli import main

        monkeypatch.setattr(sys, "argv", words)
        main()
    elif name == "anomalib-zsad":
        from anomalib_zsad.cli import main

        assert main(words[1:]) == STATUS.get(said, 0), said
    elif words[:2] == ["pip", "install"]:
        extras = _pyproject_extras()
        assert all(Requirement(word).extras <= extras for word in words[2:]), words
    else:
        pytest.fail(f"no rule for the command {name!r}: add one here, or take the command out of the page")


def _pyproject_extras() -> set[str]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table = text.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    return set(re.findall(r"^([\w-]+) = \[", table, re.MULTILINE))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has: a checkout's configs, photographs, data sets, and an adapter that was trained on something."""
    from anomalib.data import Folder
    from anomalib.engine import Engine

    from anomalib_zsad import PromptMoE, ZeroShot

    root = tmp_path_factory.mktemp("workshop")
    shutil.copytree(ROOT / "configs", root / "configs")
    benchmark = root / "configs" / "benchmark" / "small.yaml"
    benchmark.write_text(yaml.safe_dump(yaml.safe_load(benchmark.read_text(encoding="utf-8")) | CUT))
    part = paint_parts(root / "washer", seed=0)
    paint_indexed_parts(root / "tiles", seed=1)
    (root / "photos").mkdir()
    for number, photo in enumerate(sorted((root / "washer" / "cut").iterdir())[:3], start=1):
        shutil.copy(photo, root / "photos" / f"{number:04}.png")
    (root / "adapter.py").write_text("def make(*_): return lambda images: images.mean()\n")  # "official code"
    plant("MVTecAD", root / "datasets" / "MVTecAD")
    plant("Visa", root / "datasets" / "visa")
    model = PromptMoE(backbone="tiny-random", image_size=56, visualizer=False, seed=0)
    data = ZeroShot(source=Folder(**part), num_workers=0, calibration_ratio=0.2)
    Engine(default_root_dir=root / "training", max_epochs=1, logger=False, **QUIET).fit(model, datamodule=data)
    model.save_adapter(root / "promptmoe.safetensors")
    return root


def _pages() -> list:
    names = {page.relative_to(ROOT).as_posix(): page for page in PAGES}
    return [pytest.param(p, id=name, marks=[pytest.mark.slow] if name in SLOW else []) for name, p in names.items()]


@pytest.mark.parametrize("page", _pages())
def test_every_block_runs(page: Path, workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workshop)
    monkeypatch.setattr(logging.root, "handlers", [*logging.root.handlers])  # anomalib's command line sets its own
    for block in blocks(page):
        if block.marker:
            assert f"run {block.marker}" in (ROOT / ".ci" / "run").read_text(encoding="utf-8"), block
        elif block.language in {"bash", ""}:
            for words in commands(block):
                run(words, monkeypatch)
        elif block.language == "python":
            text = block.text
            for written, taken in INSTEAD.items():
                text = text.replace(written, taken)
            exec(compile(text, str(block), "exec"), {"__name__": "reader"})
        else:
            pytest.fail(f"{block}: no rule for blocks in {block.language!r}")


def test_the_tables_here_are_of_use() -> None:
    found = [block for page in PAGES for block in blocks(page)]
    said = [shlex.join(words) for block in found if block.language in {"bash", ""} for words in commands(block)]
    assert all(any(command.startswith(start) for command in said) for start in EXTRA)
    python = "".join(block.text for block in found if block.language == "python")
    assert all(written in python for written in INSTEAD)
    assert set(CUT) <= set(yaml.safe_load((ROOT / "configs" / "benchmark" / "small.yaml").read_text(encoding="utf-8")))


@pytest.mark.parametrize("marker", ["quickstart", "tests"])
def test_ci_finds_the_same_marked_blocks(marker: str) -> None:
    function = re.search(r"^block\(\) \{.*?^\}", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.M | re.S)
    script = f"root={shlex.quote(str(ROOT))}\n{function[0]}\nblock {marker}"
    taken = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    (block,) = (block for block in blocks(ROOT / "README.md") if block.marker == marker)
    assert taken == block.text


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_figures_are_those_of_the_card() -> None:
    """README's table is an excerpt of the card of the small CLIP."""
    card = (ROOT / "anomalib_zsad" / "clip" / "surfaces_tiny" / "README.md").read_text(encoding="utf-8")
    card = card.partition("**Methods at 112 px**")[2]
    rows = {cells[0].replace(", surfaces-tiny", ""): cells for line in card.splitlines() if (cells := _cells(line))}
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Figures")[2].partition("\n## ")[0]
    excerpt = [cells for line in section.splitlines() if (cells := _cells(line))]
    assert len(excerpt) == 7
    for name, *figures in excerpt:
        assert figures == [rows[name][column] for column in (3, 4, 7)], name


def _cells(line: str) -> list[str]:
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    return cells if len(cells) > 3 and re.match(r"\d", cells[1]) else []
