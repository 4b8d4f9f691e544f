# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What each extra brings, and what works and is said where one is missing: environments with nothing else in them."""

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomalib_zsad import DATAMODULES, MODELS, Detector
from anomalib_zsad.requirements import RUNTIME, TRAINING
from tests.conftest import TINY
from tests.deploy.test_detector import start
from tests.registration.conftest import Environment, brought_by

PYTORCH = {"torch", "torchvision", "anomalib", "lightning", "open-clip-torch", "timm"}
HARDWARE = [
    extra for extra in re.findall(r"\w+", TRAINING) if extra in metadata.metadata("anomalib").get_all("Provides-Extra")
]
WITHOUT_PYTORCH = """
import contextlib, io, sys
import anomalib_zsad, anomalib_zsad.deploy
from anomalib_zsad.cli import main

def said(*words):
    with contextlib.redirect_stderr(io.StringIO()) as text:
        status = main(words)
    return f"{status} {text.getvalue()}"

for words in sys.argv[1:]:
    print(said(*words.split(" ")), end="")
for name in (*anomalib_zsad.MODELS, *anomalib_zsad.DATAMODULES):
    try:
        getattr(anomalib_zsad, name)
    except ImportError as error:
        print(1, error)
"""
LISTED = """
import json, sys
import anomalib.data, anomalib.models

models, data = json.loads(sys.argv[1])
assert {*models} <= {*anomalib.models.list_models("pascal")}
assert all(hasattr(anomalib.data, name) for name in data)
try:
    anomalib.models.get_model("PromptMoE")
except ModuleNotFoundError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def runtime(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What ``pip install "anomalib-zsad[openvino-runtime]"`` makes of an empty environment."""
    environment = Environment(tmp_path_factory.mktemp("runtime"), brought_by(wheel, "openvino-runtime"))
    environment.install(wheel)
    return environment


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate([(90, 120), (112, 112)]):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with kinds of defects, exported here, beside its adapter."""
    from anomalib.models import get_model

    model = get_model("DAPO", **TINY, type_maps=True, defect_types=["scratch", "dent"], visualizer=False)
    model.post_processor.load_statistics({"image_knots": [0.3, 0.6, 0.9], "pixel_knots": [0.4, 0.7, 0.8]})
    path = Path(model.to_openvino(tmp_path_factory.mktemp("exported")))
    model.save_adapter(path.with_name("dapo.safetensors"))
    return path


def test_the_runtime_is_openvino_and_what_is_small(wheel: Path) -> None:
    plain, runtime = brought_by(wheel), brought_by(wheel, "openvino-runtime")
    assert not runtime & PYTORCH
    assert runtime - plain == {"openvino", "openvino-telemetry"}


@pytest.mark.parametrize("extra", HARDWARE)
def test_the_extras_of_anomalib_bring_everything(wheel: Path, extra: str) -> None:
    assert brought_by(wheel, extra) >= {*PYTORCH, "onnx", "onnxscript", "nncf"} | brought_by(wheel, "openvino-runtime")


def test_the_message_names_the_extras_that_there_are(wheel: Path) -> None:
    (found,) = metadata.distributions(path=[str(wheel)])
    extras = {*found.metadata.get_all("Provides-Extra")}
    assert extras == {"openvino-runtime", "train", "notebooks", "test", *HARDWARE}
    assert "openvino-runtime" in RUNTIME


def test_detect_says_without_pytorch_what_it_says_with_it(
    runtime, exported: Path, photos: Path, tmp_path: Path
) -> None:
    done = runtime.run("-c", "import torch")
    assert "No module named 'torch'" in done.stderr
    report = tmp_path / "report"
    words = ("detect", photos, "--model", exported, "--report", report, "--fail-on", "never")
    assert "2 images" in runtime.output(str(runtime.command), *map(str, words))
    records = [json.loads(line) for line in (report / "results.jsonl").read_text().splitlines()]
    detector = Detector(exported)
    assert [record["image"] for record in records] == ["0.png", "1.png"]
    for record in records:
        wanted = detector(photos / record["image"])
        assert record["score"] == pytest.approx(wanted.score, abs=1e-5)
        assert record["types"] == pytest.approx(dict(wanted.types), abs=1e-5)
        assert (report / "overlays").is_dir()
    assert (report / "report.html").stat().st_size > 10_000


def test_the_first_result_takes_little_more_than_openvino(runtime, exported: Path, photos: Path) -> None:
    assert start(exported, photos / "0.png", runtime.output) < 2


def test_without_pytorch_everything_else_says_how_to_get_it(runtime, exported: Path, photos: Path) -> None:
    assert "detect" in runtime.output(str(runtime.command), "--help")
    commands = (
        "backbone train nowhere",
        "backbone evaluate nowhere.csv",
        "benchmark nothing.yaml",
        "doctor data .",
        "schema nowhere",
        "weights info ViT-B-16",
        "weights fetch ViT-B-16",
        "weights convert --method CoPS nothing.pth cops.safetensors",
        f"detect {photos} --model {exported.with_name('dapo.safetensors')}",
    )
    lines = runtime.output("-c", WITHOUT_PYTORCH, *commands).splitlines()
    assert len(lines) == len(commands) + len(MODELS) + len(DATAMODULES)
    for line in lines:
        assert re.match(r"1 (anomalib-zsad: )?No module named '\w+'\. This installs what is missing: ", line), line
        assert line.endswith(TRAINING)


def test_without_openvino_detect_says_how_to_get_it(runtime, exported: Path, photos: Path) -> None:
    code = "import sys; sys.modules['openvino'] = None; from anomalib_zsad.cli import main; sys.exit(main())"
    done = runtime.run("-c", code, "detect", str(photos), "--model", str(exported))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert done.stderr.strip().endswith(RUNTIME)


def test_an_anomalib_that_is_there_lists_the_models(wheel: Path, tmp_path: Path) -> None:
    """`pip install anomalib-zsad`, where `anomalib[cpu]` is: all but open_clip, which every method needs to work."""
    plain = brought_by(wheel) | brought_by(wheel, "cpu") - {
        *("open-clip-torch", "openvino", "onnx", "onnxscript", "nncf")
    }
    environment = Environment(tmp_path, plain)
    environment.install(wheel)
    done = environment.run("-c", LISTED, json.dumps([[*MODELS], [*DATAMODULES]]))
    assert "No module named 'open_clip'" in done.stdout, done.stderr
    assert done.stdout.strip().endswith(TRAINING)
    assert "Not available" not in done.stderr


@pytest.mark.slow
def test_pip_installs_the_runtime_from_the_index(wheel: Path, exported: Path, photos: Path, tmp_path: Path) -> None:
    """Needs a package index."""
    environment = Environment(tmp_path, ())
    environment.pip("install", f"{wheel}[openvino-runtime]")
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "--python", environment.python, "list", "--format=json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert {entry["name"].replace("_", "-") for entry in json.loads(listed.stdout)} == {
        "anomalib-zsad",
        *brought_by(wheel, "openvino-runtime"),
    }
    assert start(exported, photos / "0.png", environment.output) < 2
    done = environment.run(str(environment.command), "detect", str(photos), "--model", str(exported))
    assert done.returncode in {0, 3}, done.stderr
    environment.pip("uninstall", "--yes", "anomalib-zsad")
    assert not [*environment.packages.glob("*zsad*")]
