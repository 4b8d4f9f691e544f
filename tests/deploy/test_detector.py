# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The detector on a graph whose answers are known."""

import logging
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops
from PIL import Image

from anomalib_zsad import Detector
from anomalib_zsad.deploy import Detection, Unreadable, UnreadableImageError
from anomalib_zsad.deploy.engines import open_model
from anomalib_zsad.deploy.inspection import inspect
from tests.deploy.conftest import FACTS, save_graph

OPENVINO = """
import sys, time
import openvino
openvino.Core().compile_model(sys.argv[1], "CPU")
print(time.process_time())
"""
START = """
import sys, time
from anomalib_zsad import Detector
found = Detector(sys.argv[1])(sys.argv[2])
assert found.score > 0
loaded = {"torch", "torchvision", "anomalib", "lightning", "cv2", "scipy", "pandas", "matplotlib"} & set(sys.modules)
assert not loaded, loaded
print(time.process_time())
"""


def run_python(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert run.returncode == 0, run.stderr
    return run.stdout


def start(model: Path, photo: Path, run: Callable[..., str] = run_python) -> float:
    """Processor time from a fresh interpreter to the first result, by what OpenVINO alone needs to read the model."""
    alone, whole = (float(run("-c", code, str(model), str(photo))) for code in (OPENVINO, START))
    return whole / alone


def test_starts_fast_and_without_pytorch(graph: Path, photos: Path) -> None:
    assert start(graph, photos / "a.png") < 2


def test_tells_score_verdict_map_regions_kinds_and_uncertainty(graph: Path, photos: Path) -> None:
    detector = Detector(graph)
    assert (detector.threshold, detector.pixel_threshold, detector.type_names) == (0.5, 0.5, ("red", "green", "blue"))
    assert detector.facts == FACTS
    found = detector(photos / "a.png")
    assert found.score == pytest.approx(250 / 255, abs=0.01)
    assert found.anomalous is True
    assert found.size == (320, 160)
    assert found.path == photos / "a.png"
    assert found.map.shape == found.mask.shape == found.type_map.shape == found.uncertainty.shape == (16, 16)
    np.testing.assert_allclose(found.uncertainty, found.map / 2)
    assert found.types[0][0] == "red"
    assert [score for _, score in found.types] == sorted((score for _, score in found.types), reverse=True)
    assert set(np.unique(found.type_map)) == {0, 1}
    assert ((found.type_map > 0) == found.mask).all()
    (region,) = found.regions
    assert region.type == "red"
    assert region.score == pytest.approx(found.score)
    # the painted box, to one of the map's 16 x 16 fields
    assert np.abs(np.subtract(region.box, (40, 20, 120, 60))).max() <= 20

    good = detector(photos / "good.bmp")
    assert (good.anomalous, good.regions) == (False, ())
    assert len(detector(photos / "a.jpg").regions) == 2


def test_every_form_of_an_image_gives_the_same_result(graph: Path, photos: Path) -> None:
    detector = Detector(graph)
    image = Image.open(photos / "a.png")
    array = np.asarray(image)
    wanted = detector(photos / "a.png")
    for form in (str(photos / "a.png"), image, array, array / 255, array.astype(np.uint16) * 257):
        found = detector(form)
        assert found.score == pytest.approx(wanted.score, abs=1e-6)
        np.testing.assert_allclose(found.map, wanted.map, rtol=0, atol=1e-6)
    for several in ([image, photos / "good.bmp"], np.stack([array, array])):
        results = detector(several)
        assert isinstance(results, list)
        assert results[0].score == pytest.approx(wanted.score, abs=1e-6)
        assert len(results) == 2


def test_a_folder_gives_a_list_in_order_and_a_warning_for_each_bad_file(graph: Path, photos: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        results = Detector(graph, throughput=True)(photos)
    names = [result.path.relative_to(photos).as_posix() for result in results]
    assert names == ["<b>&'\".png", "a.jpg", "a.png", "good.bmp", "line 2/GOOD.JPG", "line 2/half.tif"]
    assert all(result.picture is None for result in results)
    assert "empty.png (the file is empty)" in caplog.text
    assert "text.jpg (not an image" in caplog.text
    with pytest.raises(UnreadableImageError, match="empty"):
        Detector(graph)(photos / "empty.png")


def test_a_scan_survives_whatever_it_meets(graph: Path, photos: Path) -> None:
    bad = [photos / name for name in ("empty.png", "missing.png", "text.jpg")]
    results = list(Detector(graph, throughput=True).scan([*bad, photos / "a.png", *bad]))
    assert [type(result) for result in results].count(Detection) == 1
    assert sorted(str(result.path) for result in results if isinstance(result, Unreadable)) == sorted(map(str, bad * 2))
    assert len(list(Detector(graph).scan(bad))) == 3


def test_a_threshold_of_one_s_own_moves_the_verdict_only(graph: Path, photos: Path) -> None:
    found = [Detector(graph, threshold=limit)(photos / "a.png") for limit in (0.5, 0.99)]
    assert [one.anomalous for one in found] == [True, False]
    assert found[0].score == found[1].score
    np.testing.assert_array_equal(found[0].mask, found[1].mask)
    with pytest.raises(ValueError, match=r"threshold=1.5 is not in \[0, 1\]"):
        Detector(graph, threshold=1.5)


def test_a_pixel_threshold_of_one_s_own_moves_masks_only(graph: Path, photos: Path) -> None:
    usual, strict = (Detector(graph, pixel_threshold=limit)(photos / "a.png") for limit in (None, 0.999))
    assert usual.mask.any()
    assert usual.regions
    assert not strict.mask.any()
    assert strict.regions == ()
    assert (strict.score, strict.anomalous) == (usual.score, usual.anomalous)
    with pytest.raises(ValueError, match=r"pixel_threshold=-1 is not in \[0, 1\]"):
        Detector(graph, pixel_threshold=-1)


def test_files_of_other_makers_work_with_the_usual_threshold(tmp_path: Path, photos: Path) -> None:
    detector = Detector(save_graph(tmp_path / "other.xml", None))
    found = detector(photos / "a.png")
    assert (detector.facts, detector.threshold, found.types, found.type_map) == ({}, 0.5, (), None)
    assert found.anomalous
    assert found.regions[0].type is None


@pytest.mark.parametrize("shape", [(1, 3, 32, 48), (4, 3, 32, 32), (-1, 3, 32, 32)])
def test_graphs_of_fixed_size_and_batch(shape: tuple[int, ...], tmp_path: Path, photos: Path) -> None:
    detector = Detector(save_graph(tmp_path / "fixed.xml", FACTS, list(shape)))
    found = detector(photos / "a.png")
    assert found.anomalous
    assert len(found.regions) == 1


SIGNALS = """
import gc, os, signal, sys
from anomalib_zsad import Detector

first, second = Detector(sys.argv[1]), Detector(sys.argv[1])
del first
gc.collect()
del second
gc.collect()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_process_that_had_two_detectors_survives_a_signal(graph: Path) -> None:
    run = subprocess.run([sys.executable, "-c", SIGNALS, graph], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "interrupted\n"), run.stderr


def test_threads_may_share_a_detector(graph: Path) -> None:
    detector, rng = Detector(graph), np.random.default_rng(0)
    images = [rng.integers(0, 255, (*rng.integers(20, 200, 2), 3), np.uint8) for _ in range(200)]
    wanted = [detector(image).score for image in images]
    with ThreadPoolExecutor(8) as threads:
        assert [one.score for one in threads.map(detector, images)] == wanted


def test_several_images_come_in_their_order(graph: Path) -> None:
    images = [np.full((size, size, 3), size, np.uint8) for size in (255, 20, 100, 30, 200, 40)]
    found = Detector(graph, throughput=True)(images)
    assert [round(one.score * 255) for one in found] == [255, 20, 100, 30, 200, 40]


def test_no_thread_of_openvino_runs_python(graph: Path) -> None:
    """It would do so while the interpreter ends, which aborts the process once in some thousand runs."""
    engine = open_model(graph, "CPU", "f32", throughput=True, options={})
    images = [(None, np.zeros((3, 8, 8), np.float32))] * 20
    tracemalloc.start(20)
    try:
        places = [tracemalloc.get_object_traceback(outcome()) for _, outcome in engine.run(images)]
    finally:
        tracemalloc.stop()
    assert all(any(frame.filename == __file__ for frame in place) for place in places)


INTERRUPTED = """
import itertools, sys
from pathlib import Path
import numpy as np
from anomalib_zsad.deploy.engines import open_model

engine = open_model(Path(sys.argv[1]), "CPU", "f32", throughput=True, options={})
values = np.linspace(0, 1, 6)
images = [(value, np.full((3, 8, 8), value, np.float32)) for value in values]

def scores():
    return sorted((key, float(outcome()["pred_score"])) for key, outcome in engine.run(images))

wanted = scores()
for line in itertools.count():
    def interrupt(frame, event, argument, left=itertools.count(line, -1)):
        if event == "line" and next(left) == 0:
            raise KeyboardInterrupt
        return interrupt

    sys.settrace(interrupt)
    try:
        scores()
    except KeyboardInterrupt:
        sys.settrace(None)
        assert scores() == wanted
    else:
        break
    finally:
        sys.settrace(None)
print(line)
"""


def test_ctrl_c_at_any_line_leaves_a_detector_that_goes_on(graph: Path) -> None:
    """Pools of threads keep their locks then, once in a few hundred times, and the process never ends."""
    run = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, graph], capture_output=True, text=True, check=False, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 100


def test_an_image_that_the_model_fails_on_fails_alone(tmp_path: Path) -> None:
    image = ops.parameter([-1, 3, -1, -1], np.float32, name="input")
    squares = ops.reduce_max(ops.reshape(image, [-1, 3, 8 * 8], special_zero=False), [1, 2])  # of 8 x 8 pixels only
    squares.output(0).set_names({"pred_score"})
    ov.save_model(ov.Model([ops.result(squares)], [image]), tmp_path / "squares.xml")
    detector, good = Detector(tmp_path / "squares.xml"), np.full((8, 8), 0.5)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            detector([good, np.zeros((9, 9)), good])
        assert [found.score for found in detector([good, good])] == [0.5, 0.5]
    for name, size in (("a", 8), ("b", 9), ("c", 8)):
        Image.new("L", (size, size)).save(tmp_path / f"{name}.png")
    results = {result.path.name: result for result in detector.scan(sorted(tmp_path.glob("*.png")))}
    assert isinstance(results["b.png"], Unreadable)
    assert results["b.png"].reason.startswith("the model fails on it: ")
    assert isinstance(results["a.png"], Detection)
    assert isinstance(results["c.png"], Detection)


MEMORY = """
import sys
import numpy as np
from pathlib import Path
from anomalib_zsad.deploy.engines import open_model

def resident():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])

engine = open_model(Path(sys.argv[1]), "CPU", "f32", throughput=False, options={})
sizes = np.random.default_rng(0).integers(16, 300, (2400, 2))
print(resident())
for half in np.split(sizes, 2):
    for _, outcome in engine.run((None, np.zeros((3, *size), np.float32)) for size in half):
        outcome()
    print(resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_photographs_of_ever_other_sizes_do_not_fill_the_memory(graph: Path) -> None:
    run = subprocess.run([sys.executable, "-c", MEMORY, graph], capture_output=True, text=True, check=True)
    start, half, end = map(int, run.stdout.split())
    assert end - half < (half - start) / 4


STOPPED = """
import sys
from anomalib_zsad import Detector

for result in Detector(sys.argv[1]).scan(sys.argv[2:]):
    raise KeyError("mine")
"""


def test_an_error_of_the_caller_s_own_ends_as_such(graph: Path, photos: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", STOPPED, graph, *photos.glob("*.png")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert run.stderr.endswith("KeyError: 'mine'\n")


def test_a_score_that_is_no_number_is_no_verdict(graph: Path, photos: Path, monkeypatch) -> None:
    detector = Detector(graph)
    ((_, outcome),) = detector._engine.run([(None, np.zeros((3, 8, 8), np.float32))])
    outputs = outcome() | {"pred_score": np.float32("nan")}
    monkeypatch.setattr(
        detector._engine,
        "run",
        lambda images: ((key, lambda: outputs) for key, _ in images),
    )
    with pytest.raises(UnreadableImageError, match="score nan"):
        detector(photos / "a.png")
    (result,) = detector.scan([photos / "a.png"])
    assert isinstance(result, Unreadable)


def test_kinds_that_a_graph_does_not_tell_are_missed_once(tmp_path: Path, photos: Path, caplog) -> None:
    bare = save_graph(tmp_path / "bare.xml", FACTS, leave_out=("type_maps", "type_scores"))
    with caplog.at_level(logging.WARNING):
        detector = Detector(bare)
        assert [detector(photos / "a.png").types for _ in range(2)] == [(), ()]
    (record,) = caplog.records
    assert "bare.xml was made for kinds of defect (red, green, blue), but without type_maps" in record.message
    assert "`anomalib export --model.type_maps true` adds them" in record.message
    caplog.clear()
    Detector(save_graph(tmp_path / "whole.xml", FACTS))
    Detector(save_graph(tmp_path / "other.xml", FACTS | {"defect_types": []}, leave_out=("type_maps", "type_scores")))
    assert not caplog.records


def test_more_kinds_than_a_byte_can_number(tmp_path: Path, photos: Path) -> None:
    words = [f"kind {number}" for number in range(300)]
    found = Detector(save_graph(tmp_path / "many.xml", FACTS | {"defect_types": words}, kinds=300))(photos / "a.png")
    assert found.types[0][0] == found.regions[0].type == "kind 297"  # red
    assert set(np.unique(found.type_map)) == {0, 298}


def test_devices_are_taken_in_either_case(graph: Path, photos: Path) -> None:
    assert Detector(graph, device="cpu")(photos / "a.png").anomalous


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"device": "cuda"}, r"device='CUDA', precision='f32': .*CUDA.*\. Devices here: .*CPU"),
        ({"precision": "f8"}, r"device='CPU', precision='f8': .*f8.*; precisions: f32, bf16, f16\."),
    ],
)
def test_devices_and_precisions_that_there_are_not(options: dict, reason: str, graph: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        Detector(graph, **options)


def test_a_folder_of_a_report_has_no_photographs(graph: Path, photos: Path, tmp_path: Path, caplog) -> None:
    detector = Detector(graph)
    before = [found.path for found in detector(photos)]
    inspect(detector, {"a.png": photos / "a.png"}, photos / "report", {}, 10, lambda *_: None)
    assert (photos / "report" / "overlays" / "a.png.jpg").is_file()
    caplog.clear()
    assert [found.path for found in detector(photos)] == before
    assert f"Left out: {photos / 'report'} (a report" in caplog.text
    with pytest.raises(ValueError, match=r"report is the folder of a report.*name the folder of photographs"):
        detector(photos / "report")


def test_models_that_cannot_be_used_say_why(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no.xml does not exist. `anomalib export`"):
        Detector(tmp_path / "no.xml")
    (tmp_path / "model.h5").touch()
    with pytest.raises(ValueError, match=r"use .xml \(OpenVINO\), .onnx, .safetensors"):
        Detector(tmp_path / "model.h5")
    (tmp_path / "cut.xml").write_bytes(graph.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"cut.xml is damaged"):
        Detector(tmp_path / "cut.xml")
    with pytest.raises(ValueError, match="takes no defect_types: such options are given to `anomalib export`"):
        Detector(graph, defect_types=["dent"])
    with pytest.raises(FileNotFoundError, match=r"is a folder. `anomalib export` writes weights/openvino/model.xml"):
        Detector(tmp_path)
    with pytest.raises(ValueError, match=r"is no model of anomalib: expected one input of shape \(B, 3, H, W\)"):
        Detector(save_other(tmp_path / "any.xml", rank=None))


def save_other(path: Path, rank: int | None = 4) -> Path:
    """A graph whose score has no dimension, for images of a rank."""
    shape = ov.PartialShape.dynamic() if rank is None else ov.PartialShape([-1, 3, -1, -1])
    image = ops.parameter(shape, np.float32, name="input")
    whole = ops.reduce_max(ops.reshape(image, [-1], special_zero=False), [0])
    whole.output(0).set_names({"pred_score"})
    ov.save_model(ov.Model([ops.result(whole)], [image]), path, compress_to_fp16=False)
    return path


def test_a_score_without_dimensions_is_one(tmp_path: Path) -> None:
    assert Detector(save_other(tmp_path / "scalar.xml"))(np.full((8, 8), 0.25)).score == pytest.approx(0.25)
