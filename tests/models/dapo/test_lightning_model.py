# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Training on kinds of defect, naming them in predictions, and exporting them."""

import json
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace

import numpy as np
import onnx
import openvino as ov
import pandas as pd
import pytest
import torch
from anomalib.data import Folder
from anomalib.engine import Engine
from lightning.pytorch import Callback
from PIL import Image
from torch.optim import Adam

from anomalib_zsad.adapters import Adapter
from anomalib_zsad.data import ZeroShot
from anomalib_zsad.deploy.engines import openvino_core
from anomalib_zsad.functional import upsample
from anomalib_zsad.metrics import METRICS
from anomalib_zsad.metrics.multi_type import image_type_metrics, log_odds, pixel_type_metrics
from anomalib_zsad.models.dapo import DAPO
from anomalib_zsad.models.dapo.batches import DefectTypeBatch
from tests.conftest import QUIET, TINY

SMALL = {**TINY, "num_prompts": 2}


def paint(root: Path, seed: int, kinds: dict[str, int], good: int = 8) -> dict:
    """Grey plates, dark bars called ``crack`` and bright squares called ``oil``, in MVTec AD's words."""
    rng = np.random.default_rng(seed)
    for kind, count in ({"good": good} | kinds).items():
        folder = "good" if kind == "good" else f"bad/{kind}"
        for index in range(count):
            pixels, mask = rng.normal(128, 8, (96, 96, 3)), np.zeros((96, 96), np.uint8)
            top, left = rng.integers(8, 50, 2)
            if kind != "good":
                height, width = (6, 40) if kind == "crack" else (24, 24)
                mask[top : top + height, left : left + width] = 255
                pixels[mask > 0] = 20 if kind == "crack" else 240
                path = root / "masks" / kind / f"{index:03}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(path)
            path = root / folder / f"{index:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return {"name": root.name, "root": str(root), "normal_dir": "good", "abnormal_dir": "bad", "mask_dir": "masks"}


@pytest.fixture(scope="module")
def plates(tmp_path_factory) -> dict[str, dict]:
    root = tmp_path_factory.mktemp("plates")
    kinds = {"crack": 16, "oil": 16}
    return {name: paint(root / name, seed, kinds, good=16) for seed, name in enumerate(("steel", "brass"))}


def data(plates: dict[str, dict]) -> ZeroShot:
    return ZeroShot(
        source=Folder(**plates["steel"]), target=Folder(**plates["brass"]), num_workers=0, calibration_ratio=0.2
    )


@pytest.fixture(scope="module")
def trained(plates, tmp_path_factory) -> tuple[DAPO, Path]:
    """Enough training on steel to tell cracks from oil on brass."""
    torch.manual_seed(0)
    model = DAPO(**SMALL, learning_rate=1e-2)
    engine = Engine(default_root_dir=tmp_path_factory.mktemp("run"), max_epochs=8, **QUIET)
    engine.train(model, datamodule=data(plates))
    return model, Path(engine.trainer.default_root_dir)


def adapter(trained) -> Path:
    (path,) = trained[1].rglob("adapter/*.safetensors")
    return path


def test_optimiser() -> None:
    model = DAPO(**SMALL, learning_rate=2e-3)
    optimiser = model.configure_optimizers()
    assert isinstance(optimiser, Adam)
    (group,) = optimiser.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (2e-3, (0.5, 0.999), 0)
    assert {id(value) for value in group["params"]} == {id(value) for value in model.model.parameters()}


# ---- words of the training data --------------------------------------------------------------------------------------


def test_the_folders_become_the_words_and_travel_with_the_adapter(trained) -> None:
    assert trained[0].defect_types == ["crack", "oil"]
    assert DAPO(weights=adapter(trained)).defect_types == ["crack", "oil"]
    loaded = DAPO.load_from_checkpoint(next(trained[1].rglob("*.ckpt")))
    assert loaded.defect_types == ["crack", "oil"]


def test_a_checkpoint_brings_the_words_of_its_data_but_not_over_given_ones(trained, plates, tmp_path) -> None:
    checkpoint = next(trained[1].rglob("*.ckpt"))
    for options, words in (({}, ["crack", "oil"]), ({"defect_types": ["dent"]}, ["dent"])):
        model = DAPO(**SMALL, visualizer=False, **options)
        engine = Engine(default_root_dir=tmp_path, limit_test_batches=1, **QUIET)
        engine.test(model, datamodule=data(plates), ckpt_path=checkpoint)
        assert model.defect_types == model.config.defect_types == words
        assert model.model.text_features().shape[0] == 1 + len(words)


def test_words_of_another_number_than_the_calibration_had_are_told(trained, plates, tmp_path, caplog) -> None:
    def told() -> list[str]:
        found = [text for text in caplog.messages if "the model was calibrated with 2" in text]
        caplog.clear()
        return found

    path, checkpoint = adapter(trained), next(trained[1].rglob("*.ckpt"))
    DAPO(weights=path)
    model = DAPO(weights=path, defect_types=["dent", "scratch"])
    DAPO.load_from_checkpoint(checkpoint)
    assert not told()
    DAPO(weights=path, defect_types=["dent"])
    (message,) = told()
    assert message.startswith("There are 1 defect_types")
    assert "--pixel-threshold" in message
    model.defect_types = ["crack", "oil", "dent"]
    assert len(told()) == 1
    DAPO(weights=model.save_adapter(tmp_path / "three.safetensors"))  # words of today, calibration of then
    assert len(told()) == 1
    model.defect_types = ["oil", "crack"]
    assert not told()
    other = DAPO(**SMALL, defect_types=["dent"], visualizer=False)
    engine = Engine(default_root_dir=tmp_path, limit_test_batches=1, **QUIET)
    engine.test(other, datamodule=data(plates), ckpt_path=checkpoint)
    assert len(told()) == 1

    header = Adapter.load(path, "DAPO")  # of an earlier version
    header.origin.pop("calibrated_defect_types")
    DAPO(weights=header.save(tmp_path / "old.safetensors"), defect_types=["dent"])
    assert len(told()) == 1
    DAPO(**SMALL).defect_types = ["dent"]  # nothing is calibrated yet
    assert not caplog.messages


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ([], "the list is empty; give at least one"),
        (["dent", "Dent"], "'dent' is in the list twice"),
        (["dent", "normal"], "'normal' is not a kind of defect"),
        (
            ["missing screw in the upper left corner " * 6],
            "'missing screw in the upper left corner m'... has 42 tokens",
        ),
    ],
)
def test_bad_words_leave_the_good_ones_in_place(words: list[str], match: str) -> None:
    model = DAPO(**SMALL, defect_types=["scratch"])
    with pytest.raises(ValueError, match=match) as error:
        model.defect_types = words
    assert str(error.value).startswith("defect_types=")
    assert model.defect_types == model.config.defect_types == ["scratch"]
    with pytest.raises(ValueError, match=match):
        DAPO(**SMALL, defect_types=words)


def test_batches_get_the_number_of_their_word(plates, tmp_path) -> None:
    class Watched(DAPO):
        def prompt_words(self, batch):
            words = super().prompt_words(batch)
            if words:
                seen.append((batch.defect_type, words["types"].tolist()))
            return words

    seen: list[tuple[list[str], list[int]]] = []
    model = Watched(**SMALL, defect_types=["oil", "bubble", "crack"])
    Engine(default_root_dir=tmp_path, max_steps=2, **QUIET).fit(model, datamodule=data(plates))
    assert model.defect_types == ["oil", "bubble", "crack"]
    assert len(seen) == 2
    numbers = {"": 0, "oil": 1, "crack": 3}
    assert all(types == [numbers[kind] for kind in kinds] for kinds, types in seen)


def test_a_kind_that_is_not_among_the_given_words_is_named(plates, tmp_path) -> None:
    model = DAPO(**SMALL, defect_types=["crack", "dent"])
    with pytest.raises(ValueError, match=r"type 'oil', which is not among defect_types=\['crack', 'dent'\]"):
        Engine(default_root_dir=tmp_path, max_epochs=1, **QUIET).fit(model, datamodule=data(plates))


def test_known_data_sets_use_their_table(mvtec_layout, tmp_path) -> None:
    from anomalib.data import MVTecAD

    source = MVTecAD(root=mvtec_layout)
    model = DAPO(**SMALL)
    datamodule = ZeroShot(source=source, source_categories=["tile", "toothbrush"], num_workers=0, calibration_ratio=0.3)
    Engine(default_root_dir=tmp_path, max_steps=1, **QUIET).fit(model, datamodule=datamodule)
    assert len(model.defect_types) == 20
    ids = {kind: model.defect_types[number - 1] for (_, kind), number in model._type_ids.items()}
    assert ids == {"gray stroke": "damaged", "oil": "liquid", "anomaly": "damaged"}


@pytest.fixture
def mvtec_layout(tmp_path) -> Path:
    root = tmp_path / "mvtec"
    for category, kinds in {"tile": ("gray_stroke", "oil"), "toothbrush": ("defective",)}.items():
        parts = paint(root / "raw" / category, 0, dict.fromkeys(kinds, 3), 4)
        raw, home = Path(parts["root"]), root / category
        for split in ("train", "test"):
            copytree(raw / "good", home / split / "good")
        for kind in kinds:
            copytree(raw / "bad" / kind, home / "test" / kind)
            truth = home / "ground_truth" / kind
            truth.mkdir(parents=True)
            for mask in (raw / "masks" / kind).iterdir():
                mask.rename(truth / f"{mask.stem}_mask.png")
    return root


def test_training_without_real_defects_keeps_the_default_words(plates, tmp_path) -> None:
    model = DAPO(**SMALL)
    normal_only = Folder(**{key: plates["steel"][key] for key in ("name", "root", "normal_dir")}, num_workers=0)
    Engine(default_root_dir=tmp_path, max_steps=1, **QUIET).fit(model, datamodule=normal_only)
    assert len(model.defect_types) == 20
    assert set(model._type_ids.values()) == {0}


# ---- predictions -----------------------------------------------------------------------------------------------------


def test_kinds_are_named_on_objects_never_seen(trained, plates, tmp_path) -> None:
    model = DAPO(weights=adapter(trained))
    predictions = Engine(default_root_dir=tmp_path, **QUIET).predict(model, datamodule=data(plates))
    assert {type(batch) for batch in predictions} == {DefectTypeBatch}
    right = []
    for batch in predictions:
        kinds, size = len(model.defect_types), batch.anomaly_map.shape[-1]
        assert batch.type_scores.shape == (len(batch), kinds)
        assert batch.type_maps.shape == (len(batch), kinds, size, size)
        assert batch.type_map.shape == (len(batch), size, size)
        assert torch.equal(batch.type_map > 0, batch.pred_mask.bool())
        assert batch.type_names == [("crack", "oil")] * len(batch)
        for item, kind in zip(batch, batch.defect_type, strict=True):
            first = item.type_names[int(item.type_scores.argmax())]
            assert item.explanation.startswith(f"{first} {item.type_scores.max():.2f}, ")
            assert item.type_map.shape == (size, size)
            right += [first == kind] if kind else []
        assert batch.to_numpy().type_scores.shape == (len(batch), kinds)
    assert len(right) == 32
    assert np.mean(right) > 0.8


def test_a_test_run_measures_how_well_kinds_are_told_apart(trained, plates, tmp_path) -> None:
    model = DAPO(weights=adapter(trained), visualizer=False)
    seen = Collect()
    engine = Engine(default_root_dir=tmp_path, callbacks=[seen], **QUIET)
    (returned,) = engine.test(model, datamodule=data(plates))
    assert returned.keys() == set(METRICS)  # anomalib's benchmark puts all models into one table
    table = model.evaluator.types
    assert table["class"].tolist() == ["brass", "mean"]
    row = table.iloc[0]
    assert (row.kinds, row.typed_images, row.image_type_chance) == (2, 32, 0.5)

    scores = np.concatenate([array(batch.state_maps).reshape(-1, 3) for batch in seen.batches])
    kinds = [(0 if not kind else 1 + ("crack", "oil").index(kind)) for batch in seen.batches for kind in batch.kinds]
    masks = np.concatenate([array(batch.masks) for batch in seen.batches])
    scores = np.stack([log_odds(scores, number) for number in range(3)], axis=1)  # the same ranks, and fewer ties
    exact = pixel_type_metrics(scores, (masks * np.array(kinds)[:, None, None]).ravel())
    for suffix, normal in (("", True), ("_defects", False)):
        for name, value in exact.macro(normal=normal).items():
            column = f"type_{name.upper()}{suffix}"
            assert row[column] == pytest.approx(value, abs=2e-4), column  # ties within a bin
            assert float(engine.trainer.callback_metrics[column]) == pytest.approx(row[column])
    anomalous = np.array(kinds) > 0
    own = np.concatenate([array(batch.type_scores) for batch in seen.batches])[anomalous]
    assert row.image_type_top1 == image_type_metrics(own, np.array(kinds)[anomalous])["top1"] > 0.8

    root = Path(engine.trainer.default_root_dir)
    saved = pd.read_csv(next(root.rglob("defect_types.csv")))
    assert saved.candidates.unique().tolist() == ["product"]
    assert saved.type_AP[0] == pytest.approx(row.type_AP, rel=1e-12)
    by_kind = pd.read_csv(next(root.rglob("defect_types_by_kind.csv"))).set_index("kind")
    assert by_kind.index.tolist() == ["normal", "crack", "oil"]
    np.testing.assert_allclose(by_kind.type_AUROC, exact.auroc, atol=2e-4)


def array(values: torch.Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()


class Collect(Callback):
    """Keeps what a test run knows of each batch: 37 x 37 maps would not do, the metrics are of pixels."""

    def __init__(self) -> None:
        self.batches: list[SimpleNamespace] = []

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        states = upsample(batch.state_grid.mean(dim=1), batch.gt_mask.shape[-1], align_corners=True)
        maps, masks = states.permute(0, 2, 3, 1), batch.gt_mask.int()
        found = {"state_maps": maps, "masks": masks, "kinds": batch.defect_type, "type_scores": batch.type_scores}
        self.batches.append(SimpleNamespace(**found))


def test_photographs_are_named_with_other_words(trained, plates, tmp_path) -> None:
    model = DAPO(weights=adapter(trained), defect_types=["dent"])
    engine = Engine(default_root_dir=tmp_path, **QUIET)
    photo = Path(plates["brass"]["root"]) / "bad" / "oil" / "000.png"
    (one,) = engine.predict(model, data_path=photo)
    assert one.explanation[0].startswith("dent ")
    learned = {key: value.clone() for key, value in model.state_dict().items()}
    model.defect_types = ["oil", "missing screw"]
    assert model.config.defect_types == model.hparams["defect_types"] == ["oil", "missing screw"]
    (other,) = engine.predict(model, data_path=photo)
    assert other.type_names == [("oil", "missing screw")]
    assert all(torch.equal(value, learned[key]) for key, value in model.state_dict().items())
    with pytest.raises(ValueError, match="twice"):
        model.defect_types = ["oil", "oil"]
    assert model.defect_types == ["oil", "missing screw"]


def test_pictures_have_a_panel_for_the_kinds(trained, plates, tmp_path) -> None:
    model = DAPO(weights=adapter(trained))
    engine = Engine(default_root_dir=tmp_path, **QUIET)
    engine.predict(model, data_path=Path(plates["brass"]["root"]) / "bad" / "oil" / "001.png")
    (picture,) = Path(engine.trainer.default_root_dir).rglob("001.png")
    assert Image.open(picture).size == (256 * 4, 256)


# ---- export ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory) -> tuple[DAPO, Path]:
    model = DAPO(weights=adapter(trained), type_maps=True).eval()
    return model, model.to_onnx(tmp_path_factory.mktemp("export"))


def test_exported_graphs_name_kinds_as_lightning_does(exported, tmp_path) -> None:
    model, path = exported
    ov.save_model(ov.convert_model(path), tmp_path / "model.xml", compress_to_fp16=False)
    read = openvino_core().read_model(tmp_path / "model.xml")
    graph = openvino_core().compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    pixels = torch.rand(2, 3, 90, 70, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = model(pixels)
    got = graph(pixels.numpy())
    for field in ("pred_score", "anomaly_map", "type_maps", "type_scores"):
        np.testing.assert_allclose(got[field], getattr(wanted, field), rtol=0, atol=1e-4)
    assert got["type_maps"].shape == (2, 2, 112, 112)
    facts = json.loads(read.get_rt_info(["framework", "anomalib_zsad"]).astype(str))
    assert facts["defect_types"] == model.defect_types


def test_no_text_tower_is_exported(exported) -> None:
    model, path = exported
    graph = onnx.load(path)
    facts = json.loads({entry.key: entry.value for entry in graph.metadata_props}["anomalib_zsad"])
    assert facts["defect_types"] == ["crack", "oil"]
    clip = model.model.load_clip()
    vocabulary, context = clip.text.token_embedding.weight.shape[0], len(clip.text.positional_embedding)
    shapes = [tuple(tensor.dims) for tensor in graph.graph.initializer]
    assert not [tensor.name for tensor in graph.graph.initializer if "clip.text" in tensor.name]
    assert not [shape for shape in shapes if vocabulary in shape or (context in shape and len(shape) > 1)]

    def numbers(module):
        return sum(value.numel() for value in module.buffers())

    learned = model.model.vision_tokens.numel() + sum(value.numel() for value in model.model.adapters.parameters())
    stored = sum(int(np.prod(shape)) for shape in shapes)
    assert stored < 1.05 * (numbers(clip.visual) + learned)
    assert stored < 0.5 * numbers(clip.text)
