# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What every method has to do, for each name in the catalogue."""

import inspect
import json
import socket
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import openvino as ov
import pytest
import torch
import yaml
from anomalib import LearningType
from anomalib.data import Folder, InferenceBatch
from anomalib.data.utils import read_image
from anomalib.engine import Engine
from anomalib.models import AnomalibModule, get_model
from lightning.pytorch import Callback
from PIL import Image

import anomalib_zsad
from anomalib_zsad import Detector
from anomalib_zsad.adapters import AdapterError
from anomalib_zsad.deploy.engines import openvino_core
from anomalib_zsad.models.schema import json_schema
from tests.conftest import QUIET, REAL, TINY

METHODS = list(anomalib_zsad.MODELS)
CONFIGS = Path(__file__).parents[2] / "configs"


def build(name: str, **options) -> AnomalibModule:
    torch.manual_seed(0)
    return get_model(name, **{**TINY, **options})


def images(count: int, size: int = 112, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def losses(model: AnomalibModule, count: int = 2) -> dict[str, torch.Tensor]:
    labels = torch.arange(count) % 2 == 1
    masks = torch.zeros(count, 112, 112, dtype=torch.bool)
    masks[labels, 30:60, 40:80] = True
    output = model.model(images(count))
    return model.model.losses(output, labels, masks, torch.ones(count, dtype=torch.bool))


@pytest.fixture(scope="module", params=METHODS)
def trained(request, parts, tmp_path_factory) -> tuple[str, AnomalibModule, Path]:
    """One epoch on generated parts: the model and its results folder."""
    from anomalib_zsad.data import ZeroShot

    data = ZeroShot(
        source=Folder(**parts["washer"]), target=Folder(**parts["gasket"]), num_workers=0, calibration_ratio=0.2
    )
    model = build(request.param)
    engine = Engine(default_root_dir=tmp_path_factory.mktemp(request.param), max_epochs=1, **QUIET)
    engine.train(model, datamodule=data)
    return request.param, model, Path(engine.trainer.default_root_dir)


def saved(trained: tuple[str, AnomalibModule, Path], pattern: str) -> Path:
    (path,) = trained[2].rglob(pattern)
    return path


# ---- construction ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_constructs_without_arguments_and_without_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args, **_kwargs):
        raise AssertionError("no network in a constructor")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    model = get_model(name)
    assert model.model.clip is None
    assert model.learning_type is LearningType.ONE_CLASS
    assert type(model) in AnomalibModule.__subclasses__()


@pytest.mark.parametrize("name", METHODS)
def test_constructor_shows_the_schema(name: str) -> None:
    cls = getattr(anomalib_zsad, name)
    signature = inspect.signature(cls.__init__).parameters
    fields = cls.config_class.model_fields
    assert list(signature) == ["self", *fields, "weights", "pre_processor", "post_processor", "evaluator", "visualizer"]
    for field, info in fields.items():
        assert signature[field].default == info.default, field
        assert signature[field].annotation == info.annotation, field
        assert f"{field}: {info.description.split()[0]}" in cls.__doc__, field


@pytest.mark.parametrize("name", METHODS)
def test_json_schema_is_current_and_accepts_the_recipe(name: str) -> None:
    folder = anomalib_zsad.MODELS[name].rpartition(".")[2]
    path = CONFIGS / "schema" / f"{folder}.json"
    schema = json.loads(path.read_text())
    assert schema == json_schema(name), "run `anomalib-zsad schema configs/schema`"
    recipe = yaml.safe_load((CONFIGS / "model" / f"{folder}.yaml").read_text())
    jsonschema.validate(recipe, schema)
    recipe["model"]["init_args"]["no_such_option"] = 1
    with pytest.raises(jsonschema.ValidationError, match="no_such_option"):
        jsonschema.validate(recipe, schema)


@pytest.mark.parametrize("name", METHODS)
def test_bad_arguments_name_the_allowed_values(name: str) -> None:
    with pytest.raises(ValueError, match="use 112 or 126"):
        build(name, image_size=113)
    with pytest.raises(ValueError, match="tiny-random"):
        build(name, backbone="ViT-XXL-3")


@pytest.mark.parametrize("name", METHODS)
def test_images_for_the_model_are_squares(name: str) -> None:
    model = getattr(anomalib_zsad, name)
    assert model.configure_pre_processor((112, 112)).image_size == 112
    with pytest.raises(ValueError, match=r"image_size=\(112, 224\): CLIP sees squares"):
        model.configure_pre_processor((112, 224))


@pytest.mark.parametrize("name", METHODS)
def test_a_seed_decides_the_initial_values_whatever_came_before(name: str) -> None:
    first, again, other = (build(name, seed=seed).model.state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


# ---- towers and gradients ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_gradients_reach_every_learned_tensor_and_none_of_clip(name: str) -> None:
    model = build(name).train()
    sum(losses(model, 5).values()).backward()  # an odd number: gradients of the two labels must not cancel
    learned = {key: value for key, value in model.named_parameters() if value.requires_grad}
    missing = [key for key, value in learned.items() if value.grad is None or not value.grad.abs().sum() > 0]
    assert missing == []
    assert len(learned) > 10
    assert not [key for key, _ in model.named_parameters() if ".clip." in key or key.startswith("clip.")]
    assert all(not value.requires_grad for value in model.model.clip.buffers())


@pytest.mark.parametrize("name", METHODS)
def test_training_mode_leaves_the_towers_frozen(name: str) -> None:
    model = build(name)
    clip = model.model.load_clip()
    before = clip.sha256()
    model.train()
    assert model.model.training
    assert not any(module.training for module in clip.modules())
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    sum(losses(model).values()).backward()
    optimizer.step()
    del clip.__dict__["_digest"]
    assert clip.sha256() == before
    assert not [key for key in model.state_dict() if "clip." in key]


# ---- outputs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_predictions_have_shape_and_range_and_do_not_depend_on_the_batch(name: str) -> None:
    model = build(name).eval()
    batch = images(8)
    with torch.no_grad():
        whole = model.model(batch)
        single = [model.model(image[None]) for image in batch]
    assert set(InferenceBatch._fields) <= set(whole._fields)
    assert whole.pred_score.shape == (8,)
    assert whole.anomaly_map.shape == (8, 1, 112, 112)
    for value in (whole.pred_score, whole.anomaly_map):
        assert value.min() >= 0
        assert value.max() <= 1
    torch.testing.assert_close(torch.cat([one.pred_score for one in single]), whole.pred_score, rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.cat([one.anomaly_map for one in single]), whole.anomaly_map, rtol=0, atol=1e-5)


SCORE_IN_A_PROCESS = """
import sys, json, torch
from anomalib.models import get_model
import anomalib_zsad
model = get_model(sys.argv[1], backbone="tiny-random", image_size=112, weights=sys.argv[2]).eval()
image = torch.rand(1, 3, 90, 130, generator=torch.Generator().manual_seed(5))
with torch.no_grad():
    print(json.dumps(model(image).pred_score.tolist()))
"""


def test_the_same_image_gets_the_same_score_in_another_process(trained) -> None:
    name, model, _ = trained
    torch.manual_seed(99)
    image = torch.rand(1, 3, 90, 130, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        here = model.eval()(image).pred_score
    adapter = saved(trained, "adapter/*.safetensors")
    run = subprocess.run(
        [sys.executable, "-c", SCORE_IN_A_PROCESS, name, str(adapter)], capture_output=True, text=True, check=True
    )
    assert json.loads(run.stdout.splitlines()[-1]) == pytest.approx(here.tolist(), abs=1e-6)


# ---- files ---------------------------------------------------------------------------------------------------------


def test_checkpoint_is_small_and_complete(trained) -> None:
    _name, model, _ = trained
    path = saved(trained, "*.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    assert not [key for key in checkpoint["state_dict"] if ".clip." in key]
    loaded = type(model).load_from_checkpoint(path).eval()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, equal_nan=True)
    assert loaded.config == model.config
    with torch.no_grad():
        torch.testing.assert_close(loaded(images(2)).pred_score, model.eval()(images(2)).pred_score)

    checkpoint["state_dict"].pop(next(key for key in checkpoint["state_dict"] if key.startswith("model.")))
    torch.save(checkpoint, broken := path.with_name("broken.ckpt"))
    with pytest.raises(RuntimeError, match="Missing key"):
        type(model).load_from_checkpoint(broken)
    broken.unlink()


OTHER_SIZES = {
    "BayesPFL": ("layers", [1, 2, 3, 4], "[2,4,6,8]"),
    "CoPS": ("half_tokens", False, "true"),
    "DAPO": ("layers", [1, 2, 3, 4], "[2,4,6,8]"),
    "PromptAD": ("interaction", False, "true"),
    "PromptMoE": ("top_k", 2, "4"),
}


def test_a_checkpoint_of_other_sizes_is_refused_with_the_fix(trained, auxiliary, tmp_path) -> None:
    name, model, _ = trained
    option, value, wanted = OTHER_SIZES[name]
    other = build(name, image_size=56, visualizer=False, **{option: value})
    with pytest.raises(AdapterError) as error:
        Engine(default_root_dir=tmp_path, **QUIET).test(other, datamodule=auxiliary, ckpt_path=saved(trained, "*.ckpt"))
    assert str(error.value) == (
        f"The checkpoint was trained with image_size=112, {option}={getattr(model.config, option)!r}, but the model "
        f"has image_size=56, {option}={value!r}. Give it the former: --model.image_size 112 --model.{option} {wanted}"
    )
    smaller = type(model).load_from_checkpoint(saved(trained, "*.ckpt"), image_size=56).eval()
    with torch.no_grad():  # what is said here counts as the checkpoint's own
        assert smaller(images(1)).anomaly_map.shape == (1, 1, 56, 56)


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_precisions_that_convert_weights_are_refused(precision: str, auxiliary, tmp_path) -> None:
    model = build("DAPO")
    with pytest.raises(ValueError, match=rf"precision='{precision}' .*; use one of 32-true, 16-mixed, bf16-mixed"):
        Engine(default_root_dir=tmp_path, max_epochs=1, precision=precision, **QUIET).fit(model, datamodule=auxiliary)


def _moments(checkpoint: dict) -> list[dict]:
    return [state for optimizer in checkpoint["optimizer_states"] for state in optimizer["state"].values()]


def test_training_resumes_where_it_stopped(trained, auxiliary, tmp_path) -> None:
    name, _model, _ = trained
    path = saved(trained, "*.ckpt")
    before = torch.load(path, weights_only=True)
    means = [value for state in _moments(before) for value in state.values() if value.ndim > 0]
    assert {value.dtype for value in means} == {torch.bfloat16}
    assert any(value.abs().sum() > 0 for value in means)
    engine = Engine(default_root_dir=tmp_path, max_epochs=2, **QUIET)
    resumed = build(name)
    engine.fit(resumed, datamodule=auxiliary, ckpt_path=path)
    after = torch.load(engine.trainer.checkpoint_callback.best_model_path, weights_only=True)
    assert (before["epoch"], after["epoch"]) == (0, 1)
    assert after["global_step"] == 2 * before["global_step"]
    for old, new in zip(before["lr_schedulers"], after["lr_schedulers"], strict=True):
        assert new["last_epoch"] == 2 * old["last_epoch"] > 0
    assert max(float(state["step"]) for state in _moments(after)) == after["global_step"]
    live = [state["exp_avg"] for optimizer in engine.trainer.optimizers for state in optimizer.state.values()]
    assert {value.dtype for value in live} == {torch.float32}


def test_adapter_makes_the_model_zero_shot(trained, auxiliary, tmp_path) -> None:
    name, model, _ = trained
    path = saved(trained, "adapter/*.safetensors")
    assert path.stat().st_size < 8e6
    loaded = get_model(name, weights=path)
    assert loaded.learning_type is LearningType.ZERO_SHOT
    assert loaded.config == model.config
    for key, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value)
    assert loaded.origin == model.origin
    assert (loaded.origin["data"], loaded.origin["epochs"]) == ("ZeroShot/washer-to-gasket", 1)
    engine = Engine(default_root_dir=tmp_path, **QUIET)
    before = {key: value.clone() for key, value in loaded.state_dict().items()}
    (tested,) = engine.test(loaded, datamodule=auxiliary)
    assert {"image_AUROC", "image_AP", "image_F1Max", "pixel_AUROC", "pixel_AP", "pixel_PRO"} <= set(tested)
    engine.fit(loaded, datamodule=auxiliary)  # what `anomalib train` would call
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("option", [{"backbone": "ViT-B-16"}, {"pretrained": "random:7"}])
def test_adapter_of_another_backbone_is_refused(trained, option) -> None:
    path = saved(trained, "adapter/*.safetensors")
    with pytest.raises(ValueError, match="tiny-random") as error:
        get_model(trained[0], weights=path, **option).configure_model()
    assert option.get("backbone", "sha256") in str(error.value)


def test_damaged_and_foreign_adapters_are_refused(trained, tmp_path) -> None:
    path = saved(trained, "adapter/*.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:3000])
    with pytest.raises(AdapterError, match="damaged"):
        get_model(trained[0], weights=tmp_path / "cut.safetensors")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        get_model(trained[0], weights=tmp_path / "nowhere.safetensors")
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(AdapterError, match="no adapter"):
        get_model(trained[0], weights=tmp_path / "other.safetensors")


# ---- export --------------------------------------------------------------------------------------------------------


def exported_inputs() -> list[torch.Tensor]:
    """Noise of several sizes; photographs, one and four at once, where there are any."""
    noise = [images(1, 60), torch.rand(2, 3, 300, 181, generator=torch.Generator().manual_seed(1))]
    photos = [*sorted((REAL / "hazelnut_toy" / "test" / "colour").glob("*.jpg"))[:4]]
    if not photos:
        return noise
    tile = read_image(sorted((REAL / "magnetic_tile" / "MT_Crack" / "Imgs").glob("*.jpg"))[0], as_tensor=True)
    return [*noise, tile[None], torch.stack([read_image(photo, as_tensor=True) for photo in photos])]


def test_exported_graphs_score_as_lightning_does(trained, tmp_path) -> None:
    """ONNX and OpenVINO, dynamic batch and image size, the resize included, from pixels to calibrated score."""
    _, model, _ = trained
    onnx = model.to_onnx(tmp_path)
    ov.save_model(ov.convert_model(onnx), tmp_path / "model.xml", compress_to_fp16=False)
    core = openvino_core()
    for file in (onnx, tmp_path / "model.xml"):
        graph = core.compile_model(core.read_model(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        for pixels in exported_inputs():
            with torch.no_grad():
                wanted = model.eval()(pixels)
            got = graph(pixels.numpy())
            for field, knots in (("pred_score", "image_knots"), ("anomaly_map", "pixel_knots")):
                # Calibration stretches the narrow range of a model trained for a moment, and its rounding with it; so
                # compare on the scale that the graph computes on.
                scale = [0, *getattr(model.post_processor, knots).tolist(), 1]
                pair = (got[field], getattr(wanted, field))
                raw = [np.interp(value, [0, 0.25, 0.5, 0.75, 1], scale) for value in pair]
                np.testing.assert_allclose(*raw, rtol=0, atol=5e-5)
            assert got["anomaly_map"].shape == (len(pixels), 1, 112, 112)


def test_torch_export_reloads(trained, tmp_path) -> None:
    _, model, _ = trained
    exported = torch.load(model.to_torch(tmp_path), weights_only=False)["model"].eval()
    with torch.no_grad():
        torch.testing.assert_close(exported(images(2)).pred_score, model.eval()(images(2)).pred_score)


class Found(Callback):
    """Keeps score and map of each image."""

    def __init__(self) -> None:
        self.images: dict[str, tuple[float, np.ndarray]] = {}

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, *args) -> None:
        for path, score, anomaly_map in zip(batch.image_path, batch.pred_score, batch.anomaly_map, strict=True):
            self.images[Path(path).name] = float(score), anomaly_map.squeeze().numpy()

    on_predict_batch_end = on_test_batch_end


@pytest.mark.parametrize("name", METHODS)
def test_sixteen_bits_score_with_anomalibs_data_as_in_the_detector(name: str, tmp_path) -> None:
    paths = [tmp_path / "data" / file for file in ("good/0.png", "good/1.png", "cut/2.png", "cut/3.tif")]
    for path, size in zip(paths, ((60, 40), (50, 90), (40, 60), (60, 60)), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.linspace(300, 65000, size[0] * size[1]).reshape(size).astype(np.uint16)
        Image.fromarray((pixels // 256).astype(np.uint8) if path.name == "1.png" else pixels).save(path)
    model = build(name, visualizer=False)
    detector = Detector(model.to_onnx(tmp_path))
    options = {"root": tmp_path / "data", "normal_dir": "good", "normal_test_dir": "good", "abnormal_dir": "cut"}
    data = Folder("object", **options, val_split_mode="none", num_workers=0, eval_batch_size=3)
    for verb, source in (
        ("predict", {"data_path": tmp_path / "data"}),
        ("predict", {"datamodule": data}),
        ("test", {"datamodule": data}),
    ):
        found = Found()
        engine = Engine(default_root_dir=tmp_path, callbacks=[found], **QUIET)
        getattr(engine, verb)(model, **source)
        assert len(found.images) == len(paths)
        for path in paths:
            wanted, (score, anomaly_map) = detector(path), found.images[path.name]
            assert score == pytest.approx(wanted.score, abs=2e-6), (verb, path)
            np.testing.assert_allclose(anomaly_map, wanted.map, rtol=0, atol=1e-5)


# ---- maps beside the anomaly map -------------------------------------------------------------------------------------

EXTRA_MAPS = {
    "BayesPFL": ("uncertainty_map", ["uncertainty_map"]),
    "CoPS": ("distance_maps", ["normal_distance_map", "anomalous_distance_map"]),
}


@pytest.mark.parametrize("name", EXTRA_MAPS)
def test_extra_maps_reach_pictures_and_graphs_and_change_no_score(name: str, parts, tmp_path) -> None:
    option, fields = EXTRA_MAPS[name]
    plain, model = build(name).eval(), build(name, **{option: True}).eval()
    with torch.no_grad():
        shown = model(images(2, 90))
        assert torch.equal(shown.pred_score, plain(images(2, 90)).pred_score)
    engine = Engine(default_root_dir=tmp_path, **QUIET)
    engine.predict(model, data_path=Path(parts["gasket"]["root"]) / "cut" / "000.png")
    (picture,) = Path(engine.trainer.default_root_dir).rglob("000.png")
    assert Image.open(picture).width == 256 * (3 + len(fields))
    graph = openvino_core().compile_model(str(model.to_onnx(tmp_path)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    got = graph(images(2, 90).numpy())
    for field in ("pred_score", "anomaly_map", *fields):
        np.testing.assert_allclose(got[field], getattr(shown, field), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_without_data_it_trains_on_generated_surfaces(name: str, tmp_path, caplog) -> None:
    model = build(name, image_size=56, visualizer=False)
    limits = {f"limit_{split}_batches": 2 for split in ("train", "val", "test")}
    engine = Engine(default_root_dir=tmp_path, max_steps=2, **QUIET, **limits)  # steps alone must do
    with caplog.at_level("INFO", "anomalib_zsad"):
        metrics = engine.train(model)
    assert "training on SyntheticSurfaces" in caplog.text
    assert "--data ZeroShot" in caplog.text
    assert model.origin["data"] == "SyntheticSurfaces"
    assert "image_AUROC" in metrics[0]
