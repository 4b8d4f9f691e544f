# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""One method through the whole export matrix, and what quantisation may see."""

import gc
import logging
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from anomalib.data import Folder
from anomalib.deploy import CompressionType
from anomalib.engine import Engine
from anomalib.models import get_model
from PIL import Image

from anomalib_zsad import Detector, SyntheticSurfaces, ZeroShot
from anomalib_zsad.deploy.engines import openvino_core
from anomalib_zsad.exporting import _calibration, _validate
from tests.conftest import QUIET, paint_parts

WORDS = ["scratch", "dent"]
COMPRESSIONS = [None, *CompressionType]


def pictures(**options) -> SyntheticSurfaces:
    counts = {"train_images": 8, "val_images": 8, "test_images": 2}
    return SyntheticSurfaces(image_size=64, num_workers=0, **{**counts, **options})


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = get_model("DAPO", backbone="tiny-random", image_size=56, defect_types=WORDS, visualizer=False)
    model.post_processor.load_statistics({"image_knots": [0.3, 0.6, 0.9], "pixel_knots": [0.4, 0.7, 0.8]})
    return model.eval()


@pytest.fixture(scope="module")
def files(model, tmp_path_factory) -> dict:
    """OpenVINO files by compression, exported as a user does but from a graph that is traced once."""
    root = tmp_path_factory.mktemp("exported")
    onnx = model.to_onnx(root)
    engine = Engine(default_root_dir=root, logger=False, **QUIET)
    files = {}
    model.to_onnx = lambda *_, **__: onnx
    try:
        for compression in COMPRESSIONS:
            asked = {"compression_type": compression, "export_root": root / str(compression)}
            if compression in {CompressionType.INT8_PTQ, CompressionType.INT8_ACQ}:
                asked["datamodule"] = pictures()
            if compression == CompressionType.INT8_ACQ:
                asked |= {"metric": "AUROC", "max_drop": 1.0}
            files[compression] = engine.export(model, "openvino", **asked)
    finally:
        del model.to_onnx
    return {"onnx": onnx, **files}


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 255, (90, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((140, 180)).save(path)
    return path


@pytest.mark.parametrize("compression", ["onnx", *COMPRESSIONS])
def test_every_file_says_what_it_is_and_scores(compression, files, model, picture: Path) -> None:
    detector = Detector(files[compression])
    facts = model.export_facts()
    assert detector.facts == facts
    assert (facts["method"], facts["image_size"], facts["defect_types"]) == ("DAPO", 56, WORDS)
    assert facts["thresholds"] == {"image": 0.5, "pixel": 0.5}
    assert len(facts["adapter"]) == len(facts["clip"]["sha256"]) == 64
    assert set(facts["versions"]) == {"anomalib_zsad", "anomalib", "torch"}
    with torch.no_grad():
        wanted = model(torch.from_numpy(np.asarray(Image.open(picture)).copy()).permute(2, 0, 1)[None] / 255)
    found = detector(picture)
    # 8 bits of weights, and of what goes into the towers' layers, are worth a few hundredths on random towers
    bound = 1e-4 if compression in {"onnx", None} else 2e-3 if compression == CompressionType.FP16 else 0.1
    assert abs(found.score - wanted.pred_score.item()) < bound
    assert np.abs(found.map - wanted.anomaly_map.numpy()).max() < bound


@pytest.mark.parametrize("name", ["BayesPFL", "PromptAD", "PromptMoE"])
def test_a_class_word_is_among_the_facts(name: str) -> None:
    facts = get_model(name, backbone="tiny-random", image_size=56, class_name="tile", visualizer=False).export_facts()
    assert (facts["method"], facts["class_name"], facts["defect_types"]) == (name, "tile", [])


@pytest.mark.parametrize("name", ["BayesPFL", "PromptAD", "PromptMoE"])
def test_an_export_without_a_class_word_says_which_one_it_has(name: str, tmp_path: Path, caplog) -> None:
    options = {"backbone": "tiny-random", "image_size": 56, "visualizer": False}
    for word, told in ((None, 2), ("tile", 0)):
        exported = get_model(name, class_name=word, **options)
        with caplog.at_level("WARNING", "anomalib_zsad.exporting"):
            exported.to_torch(tmp_path)
            exported.to_onnx(tmp_path)
        messages = [record.getMessage() for record in caplog.records if record.name == "anomalib_zsad.exporting"]
        assert messages == ["The exported prompts say 'object'; give --model.class_name for another word."] * told
        caplog.clear()


def test_compressed_files_are_smaller(files) -> None:
    sizes = {key: path.with_suffix(".bin").stat().st_size for key, path in files.items() if key != "onnx"}
    assert sizes[CompressionType.FP16] < 0.55 * sizes[None]
    assert sizes[CompressionType.INT8] < 0.35 * sizes[None]
    assert sizes[CompressionType.INT8_PTQ] < 0.6 * sizes[None]


def test_only_linear_layers_of_the_towers_are_quantised(files, model) -> None:
    graph = openvino_core().read_model(files[CompressionType.INT8_PTQ])
    quantised = {
        target.get_node() for node in graph.get_ops() if node.get_type_name() == "FakeQuantize"
        for target in node.output(0).get_target_inputs()
    }  # fmt: skip
    assert {node.get_type_name() for node in quantised} == {"MatMul"}
    shapes = {tuple(value.shape) for name, value in model.model.clip.named_buffers() if ".resblocks." in name}
    found = [tuple(node.input(1).get_partial_shape().to_shape()) for node in quantised]
    assert all(size in shapes or size[::-1] in shapes for size in found)
    assert len(found) == 4 * model.model.sizes.vision.layers  # DAPO's texts are encoded before the export


def test_layers_that_may_be_taken_back_are_not_smoothed(files) -> None:
    def smoothed(compression: CompressionType) -> int:
        nodes = openvino_core().read_model(files[compression]).get_ops()
        return sum("nncf_smooth_quant" in node.get_friendly_name() for node in nodes)

    assert smoothed(CompressionType.INT8_PTQ) > 0
    assert smoothed(CompressionType.INT8_ACQ) == 0


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_a_graph_of_one_size_and_one_image(kind: str, model, tmp_path: Path, picture: Path) -> None:
    engine = Engine(default_root_dir=tmp_path, logger=False, **QUIET)
    fixed = {"input_size": (56, 56), "onnx_kwargs": {"dynamic_axes": None}}
    path = engine.export(model, kind, export_root=tmp_path, **fixed)
    assert openvino_core().read_model(path).input(0).get_partial_shape().to_shape() == [1, 3, 56, 56]
    free = model(torch.from_numpy(np.asarray(Image.open(picture)).copy()).permute(2, 0, 1)[None] / 255)
    assert Detector(path)(picture).score == pytest.approx(free.pred_score.item(), abs=1e-4)


# ---- what quantisation sees --------------------------------------------------------------------------------------


def test_accuracy_is_f1_unless_another_metric_is_named(model, files, tmp_path: Path, caplog, monkeypatch) -> None:
    monkeypatch.setattr(model, "to_onnx", lambda *_, **__: files["onnx"])
    with caplog.at_level(logging.INFO):
        model.to_openvino(tmp_path, compression_type=CompressionType.INT8_ACQ, datamodule=pictures(), max_drop=1.0)
    assert "INT8_ACQ: F1Score 0." in caplog.text


@pytest.mark.parametrize("compression", [CompressionType.INT8_PTQ, CompressionType.INT8_ACQ])
def test_without_images_it_says_which_ones_to_give(compression, model, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--data SyntheticSurfaces"):
        model.to_openvino(tmp_path, compression_type=compression)
    assert not list(tmp_path.iterdir())


def test_a_metric_needs_images_of_both_kinds(model, tmp_path: Path) -> None:
    data = ZeroShot(source=Folder(**paint_parts(tmp_path / "few", 0, normal=3, anomalous=1)), num_workers=0)
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="has 1, not of both kinds: it needs two normal and two anomalous images"):
        model.to_openvino(out, compression_type=CompressionType.INT8_ACQ, datamodule=data)
    assert not out.exists()


def test_an_unknown_metric_is_refused_with_the_known_ones(model, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="AUROC, AUPR, F1Max, F1Score"):
        model.to_openvino(tmp_path, compression_type=CompressionType.INT8_ACQ, datamodule=pictures(), metric="accuracy")


def test_images_are_read_one_at_a_time_and_labels_not_at_all(files) -> None:
    alive: list[weakref.ref] = []

    class Data:
        name = "pictures"

        def __len__(self) -> int:
            return 20

        def __getitem__(self, index: int) -> SimpleNamespace:
            gc.collect()
            assert sum(ref() is not None for ref in alive) <= 2
            image = torch.rand(3, 40 + index, 50)
            alive.append(weakref.ref(image))
            return SimpleNamespace(image=image)  # no label, no mask

    graph = openvino_core().read_model(files[None])
    shapes = [pixels.shape for pixels in _calibration(graph, Data()).get_inference_data()]
    assert sorted(shapes) == [(1, 3, 40 + index, 50) for index in range(20)]


def test_accuracy_control_takes_labels_of_the_training_split_only(model, parts, monkeypatch) -> None:
    data = Folder(**parts["gasket"], num_workers=0)
    model._set_up_for_quantization(data, labelled=True)
    tested = set(data.test_data.samples.image_path)
    for split in (data.train_data, data.val_data):
        assert not tested & set(split.samples.image_path)
        assert type(split).__name__ == "AuxiliaryDataset"
    assert {bool(item.gt_label) for item in data.train_data} == {False, True}  # every second one synthetic
    plain = Folder(**parts["gasket"], num_workers=0)
    model._set_up_for_quantization(plain, labelled=False)
    assert not any(plain.train_data.samples.label_index)


def test_the_metric_starts_anew_every_time(files, model) -> None:
    from anomalib.metrics import AUROC

    graph = openvino_core().read_model(files[None])
    compiled = openvino_core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    data = pictures(val_images=6)
    data.setup()
    items = [data.val_data[index] for index in range(6)]
    metric = AUROC(fields=["pred_score", "gt_label"])
    first, nearness = _validate(graph, compiled, metric, items)
    again, _ = _validate(graph, compiled, metric, items)
    assert first == again
    with torch.no_grad():
        scores = np.array([model(item.image[None]).pred_score.item() for item in items])
    labels = np.array([float(item.gt_label) for item in items])
    np.testing.assert_allclose(nearness, 1 - np.abs(scores - labels), atol=1e-4)
    better = scores[labels == 1][:, None] > scores[labels == 0]
    assert first == pytest.approx(better.mean(), abs=1e-6)
    masked = AUROC(fields=["anomaly_map", "gt_mask"])
    value, _ = _validate(graph, compiled, masked, items)
    assert 0 <= value <= 1
