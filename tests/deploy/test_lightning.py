# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The detector against Lightning, for every kind of file that it opens."""

import logging
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import torch
from anomalib.data import PredictDataset
from anomalib.engine import Engine
from anomalib.models import get_model
from lightning.pytorch import Trainer
from PIL import Image

from anomalib_zsad import Detector, SyntheticSurfaces
from anomalib_zsad.models.dapo import DAPO
from tests.conftest import QUIET, TINY
from tests.deploy.test_detector import start

WORDS = ["scratch", "dent", "missing screw"]


@pytest.fixture(scope="module")
def photos(real: Path) -> list[Path]:
    """Three sizes and shapes, colour and grey."""
    folders = ("hazelnut_toy/test/colour", "magnetic_tile/MT_Crack/Imgs", "brain_mri/yes")
    return [next(path for path in sorted((real / folder).iterdir()) if path.suffix == ".jpg") for folder in folders]


@pytest.fixture(scope="module")
def model() -> DAPO:
    torch.manual_seed(0)
    model = get_model("DAPO", **TINY, type_maps=True, defect_types=WORDS, visualizer=False)
    model.post_processor.load_statistics({"image_knots": [0.3, 0.6, 0.9], "pixel_knots": [0.4, 0.7, 0.8]})
    return model


@pytest.fixture(scope="module")
def files(model: DAPO, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The model in every kind of file."""
    root = tmp_path_factory.mktemp("exported")
    files = {"onnx": model.to_onnx(root), "adapter": model.save_adapter(root / "dapo.safetensors")}
    files |= {"openvino": root / "model.xml", "checkpoint": root / "model.ckpt", "torch": model.to_torch(root)}
    ov.save_model(ov.convert_model(files["onnx"]), files["openvino"], compress_to_fp16=False)
    trainer = Trainer(accelerator="cpu", logger=False, enable_model_summary=False)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(files["checkpoint"], weights_only=True)
    return files


@pytest.fixture(scope="module")
def wanted(files, photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list:
    """What Lightning predicts with the adapter."""
    adapter = get_model("DAPO", weights=files["adapter"], visualizer=False)
    engine = Engine(default_root_dir=tmp_path_factory.mktemp("predicted"), **QUIET)
    return [engine.predict(adapter, dataset=PredictDataset(photo))[0] for photo in photos]


@pytest.mark.parametrize("kind", ["openvino", "onnx", "adapter", "checkpoint", "torch"])
def test_results_are_lightning_s(kind: str, files, photos: list[Path], wanted, monkeypatch) -> None:
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    detector = Detector(files[kind])
    assert detector.type_names == tuple(WORDS)
    for photo, batch in zip(photos, wanted, strict=True):
        found = detector(photo)
        assert found.score == pytest.approx(batch.pred_score.item(), abs=1e-4)
        np.testing.assert_allclose(found.map, batch.anomaly_map.squeeze(), rtol=0, atol=1e-4)
        assert found.anomalous == bool(batch.pred_label)
        unclear = np.abs(found.map - 0.5) < 1e-4
        assert ((found.mask == batch.pred_mask.squeeze().numpy()) | unclear).all()
        scores = dict(found.types)
        np.testing.assert_allclose([scores[word] for word in WORDS], batch.type_scores[0], rtol=0, atol=1e-4)
        agree = found.type_map == batch.type_map.squeeze().numpy()
        assert agree.mean() > 0.999  # where two kinds are equally likely, rounding decides


@pytest.mark.parametrize("kind", ["openvino", "onnx"])
@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_half_precision_costs_no_verdict(kind: str, precision: str, files, photos: list[Path]) -> None:
    """OpenVINO's own choice on some CPUs, and so that of anomalib's inferencer."""
    exact, half = (Detector(files[kind], precision=one) for one in ("f32", precision))
    for size in ((112, 112), (300, 200), (257, 257), (512, 700)):
        image = Image.open(photos[0]).convert("RGB").resize(size)
        wanted, found = exact(image), half(image)
        assert found.score == pytest.approx(wanted.score, abs=0.03)
        assert np.abs(found.map - wanted.map).mean() < 0.03


def test_a_file_says_what_it_is(files, model: DAPO, monkeypatch) -> None:
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    facts = {kind: Detector(path).facts for kind, path in files.items()}
    assert facts["openvino"] == facts["onnx"] == facts["torch"] == model.export_facts()
    for field in ("method", "thresholds", "calibrated", "defect_types", "clip", "adapter", "image_size", "versions"):
        assert facts["adapter"][field] == facts["checkpoint"][field] == facts["onnx"][field], field
    assert facts["onnx"]["calibrated"] is True
    assert len(facts["onnx"]["adapter"]) == 64


def test_what_was_never_trained_is_told(tmp_path: Path, caplog) -> None:
    model = get_model("CoPS", **TINY, visualizer=False)
    with caplog.at_level(logging.WARNING):
        model.to_onnx(tmp_path)
        Detector(tmp_path / "weights" / "onnx" / "model.onnx")
        trainer = Trainer(accelerator="cpu", logger=False, enable_model_summary=False, enable_progress_bar=False)
        trainer.predict(model, SyntheticSurfaces(image_size=56, test_images=34, num_workers=0))
    untrained = "This CoPS has not been trained: its scores say nothing."
    assert sum(message.startswith(untrained) for message in caplog.messages) == 2
    assert "model.onnx was made without calibration: its verdicts compare raw scores with 0.5" in caplog.text


def test_options_that_a_model_does_not_have_are_named(files) -> None:
    with pytest.raises(ValueError, match=r"dapo.safetensors is of DAPO, which has no option treshold. It has "):
        Detector(files["adapter"], treshold=0.5)


def test_thresholds_are_on_the_scale_of_the_outputs(model: DAPO) -> None:
    processor = model.post_processor
    assert model.export_facts()["thresholds"] == {"image": 0.5, "pixel": 0.5}
    processor.enable_normalization, processor.pixel_sensitivity = False, 0.25
    try:
        assert model.export_facts()["thresholds"] == pytest.approx({"image": 0.6, "pixel": 0.8})
    finally:
        processor.enable_normalization, processor.pixel_sensitivity = True, 0.5


def test_an_exported_model_starts_fast(files, photos: list[Path]) -> None:
    assert start(files["openvino"], photos[0]) < 2


def test_a_tensor_is_an_image_too(files, photos: list[Path]) -> None:
    from anomalib.data.utils import read_image

    detector = Detector(files["openvino"])
    tensor = torch.as_tensor(read_image(photos[0], as_tensor=True))
    wanted = detector(photos[0]).score
    assert detector(tensor).score == pytest.approx(wanted, abs=1e-6)
    assert [found.score for found in detector(torch.stack([tensor, tensor]))] == pytest.approx([wanted] * 2, abs=1e-6)
    with pytest.raises(ValueError, match="nan"):
        detector(tensor * torch.nan)


def test_other_devices_are_told(files) -> None:
    for device in ("gpu", "cuda:99"):
        with pytest.raises(ValueError, match=rf"cannot use device='{device}': .*Devices here: cpu"):
            Detector(files["adapter"], device=device)
    assert Detector(files["adapter"], device="CPU").facts["method"] == "DAPO"


def test_damaged_torch_exports_are_told(files, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    path = tmp_path / "model.pt"
    content = files["torch"].read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"no model"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model\.pt is damaged, or no PyTorch file"):
            Detector(path)
    for other in ({"state_dict": {}}, {"model": 3}, torch.zeros(3)):
        torch.save(other, path)
        with pytest.raises(ValueError, match=r"model\.pt has no model; use what"):
            Detector(path)


def test_torch_exports_without_kinds_are_told(tmp_path: Path, photos: list[Path], monkeypatch, caplog) -> None:
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    plain = get_model("DAPO", **TINY, defect_types=WORDS, visualizer=False)
    with caplog.at_level(logging.WARNING, "anomalib_zsad.deploy"):
        assert Detector(plain.to_torch(tmp_path))(photos[0]).types == ()
    assert caplog.text.count("for kinds of defect (scratch, dent, missing screw), but without type_maps") == 1


def test_adapters_take_other_words_and_pickles_need_trust(files, photos: list[Path], monkeypatch) -> None:
    found = Detector(files["adapter"], defect_types=["stain", "hole"])(photos[0])
    assert {name for name, _ in found.types} == {"stain", "hole"}
    monkeypatch.delenv("TRUST_REMOTE_CODE", raising=False)
    with pytest.raises(ValueError, match="TRUST_REMOTE_CODE=1"):
        Detector(files["torch"])
