# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""PromptAD in the Engine: episodes, few-shot use, words of the target, export, and the protocols of the paper."""

import json
import math
import signal
from pathlib import Path

import onnx
import pytest
import torch
import yaml
from anomalib import LearningType
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import Folder, MVTecAD, PredictDataset
from anomalib.engine import Engine
from lightning.pytorch import Callback
from torch.utils.data import DataLoader

from anomalib_zsad.adapters import Adapter
from anomalib_zsad.data import MetaJson, ZeroShot
from anomalib_zsad.deploy.engines import openvino_core
from anomalib_zsad.models.promptad import PromptAD
from tests.conftest import QUIET, TINY, paint_parts

EXPERIMENTS = Path(__file__).parents[3] / "configs" / "experiment"


def engine(path: Path, **options) -> Engine:
    return Engine(default_root_dir=path, logger=False, **QUIET, **options)


def build(**options) -> PromptAD:
    torch.manual_seed(0)
    return PromptAD(**TINY, visualizer=False, **options)


@pytest.fixture(scope="module")
def tested(tmp_path_factory) -> dict[str, str]:
    """Generated parts with normal images in the training as well as in the test split."""
    root = tmp_path_factory.mktemp("tested") / "flange"
    arguments = paint_parts(root, seed=7, normal=6, anomalous=4)
    paint_parts(root / "more", seed=8, normal=4, anomalous=0)
    return {**arguments, "normal_test_dir": "more/good", "num_workers": 0}


class Watch(Callback):
    def __init__(self) -> None:
        self.seen = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.seen.append((batch.category, batch.gt_label.int().tolist()))


@pytest.fixture(scope="module")
def trained(parts, tmp_path_factory) -> tuple[Watch, ZeroShot, Path, PromptAD]:
    """Trained on two objects with one anomaly each, told of a target that is not there yet."""
    data = ZeroShot(
        source=[Folder(**parts["washer"]), Folder(**parts["gasket"])],
        num_workers=0, max_anomalies_per_class=1, train_batch_size=5,
    )  # fmt: skip
    watch, path = Watch(), tmp_path_factory.mktemp("promptad")
    model = build(class_name="bolt", class_definition="a steel bolt", defect_types=["rust"], k_shot=2)
    engine(path, max_epochs=1, callbacks=[watch]).fit(model, datamodule=data)
    (adapter,) = path.rglob("*.safetensors")
    return watch, data, adapter, model


def test_training_goes_through_episodes_of_one_class(trained) -> None:
    watch, data, _, _ = trained
    anomalies = {"washer": 0, "gasket": 0}
    for categories, labels in watch.seen:
        assert len(set(categories)) == 1
        assert len(categories) == 5
        anomalies[categories[0]] += sum(labels)
    # One anomaly, ten times, and once more at most to fill the last episode up.
    assert all(10 <= count <= 14 for count in anomalies.values())
    assert data.train_sampler is None


@pytest.mark.parametrize("end", [RuntimeError, KeyboardInterrupt])
def test_a_training_that_is_broken_off_leaves_no_episodes_in_the_data(parts, tmp_path, end: type) -> None:
    class Break(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            assert trainer.datamodule.train_sampler is not None
            raise end

    data = ZeroShot(source=Folder(**parts["washer"]), num_workers=0)
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises((RuntimeError, SystemExit)):
            engine(tmp_path, max_epochs=1, callbacks=[Break()], num_sanity_val_steps=0).fit(build(), datamodule=data)
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning switches it off when interrupted
    assert data.train_sampler is None


@pytest.mark.parametrize("kind", ["one class", "several classes", "ZeroShot"])
def test_data_that_cannot_train_in_episodes_is_named(parts, tmp_path, caplog, kind: str) -> None:
    folders = [Path(parts[name]["root"]) for name in ("washer", "gasket")]
    if kind == "several classes":
        images = {
            folder.name: [
                {"img_path": f"{folder.name}/{path.parent.name}/{path.name}", "mask_path": "", "anomaly": 0}
                for path in sorted((folder / "good").glob("*.png"))
            ]
            for folder in folders
        }
        tested = {name: [entries.pop()] for name, entries in images.items()}
        index = tmp_path / "meta.json"
        index.write_text(json.dumps({"train": images, "test": tested}))
        data = MetaJson(folders[0].parent, index=index, num_workers=0)
    else:
        data = Folder(**parts["washer"], num_workers=0)
        data = ZeroShot(source=data, num_workers=0) if kind == "ZeroShot" else data
    limits = {"limit_train_batches": 1, "limit_val_batches": 0, "num_sanity_val_steps": 0}
    engine(tmp_path, max_epochs=1, **limits).fit(build(), datamodule=data)
    told = [record.getMessage() for record in caplog.records if "episodes" in record.getMessage()]
    if kind == "several classes":
        (message,) = told
        assert message.startswith("MetaJson does not train in episodes: batches are drawn from all of its 2 classes")
        assert message.endswith("--data ZeroShot --data.source MetaJson.")
    else:
        assert not told


def test_training_takes_the_auxiliary_words_not_those_of_the_target(trained) -> None:
    model = trained[3]
    assert set(model.model._texts) == {("washer", False), ("gasket", False)}
    assert model.model.references == {}


def test_the_adapter_does_not_hand_on_what_it_was_told_of_a_target(trained) -> None:
    config = PromptAD(weights=trained[2]).config
    assert (config.class_name, config.class_definition, config.defect_types, config.k_shot) == (None, None, None, 0)
    assert (config.backbone, config.layers) == ("tiny-random", [2, 5, 6])
    tensors = Adapter.load(trained[2], "PromptAD").tensors
    assert {key.split(".")[0] for key in tensors} == {"branches"}
    with pytest.raises(ValueError, match="interaction"):
        PromptAD(weights=trained[2], interaction=False)


def predictions(model: PromptAD, path: Path, images: Path) -> torch.Tensor:
    loader = DataLoader(PredictDataset(images), batch_size=4, collate_fn=PredictDataset(images).collate_fn)
    return torch.cat([batch.pred_score for batch in engine(path).predict(model, dataloaders=loader)])


def test_words_of_the_target_change_the_scores_without_training(trained, tested, tmp_path) -> None:
    folder = Path(tested["root"]) / "more" / "good"
    plain, named, defined = (
        predictions(PromptAD(weights=trained[2], visualizer=False, **options), tmp_path, folder)
        for options in ({}, {"class_name": "screw"}, {"class_definition": "a flat ring of steel"})
    )
    assert plain.shape == (4,)
    assert not torch.allclose(plain, named, atol=1e-6)
    assert not torch.allclose(plain, defined, atol=1e-6)


def test_a_part_of_the_description_leaves_each_image_its_own_word(trained, tested, tmp_path) -> None:
    other = Folder(**{**tested, "name": "screw"})
    data = ZeroShot(target=[Folder(**tested), other], num_workers=0)
    model = PromptAD(weights=trained[2], visualizer=False, defect_types=["rust"], k_shot=2)
    engine(tmp_path).test(model, datamodule=data)
    texts = model.model._texts
    assert set(texts) == {("flange", True), ("screw", True)}
    for (word, _), text in texts.items():
        wanted = model.model._encode((model.model.prompts(word)[0], f"abnormality of {word} is rust"))
        assert torch.equal(text, wanted)
    assert set(model.model.references) == {"flange", "screw"}


@pytest.mark.parametrize("limit", [{"max_time": {"hours": 1}}, {"max_epochs": -1}], ids=str)
def test_the_learning_rate_rises_also_where_time_is_the_limit(parts, tmp_path, limit: dict) -> None:
    rates = []

    class Rates(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
            rates.append(optimizer.param_groups[0]["lr"])
            trainer.should_stop = len(rates) == 3

    data = ZeroShot(source=Folder(**parts["washer"]), num_workers=0)
    model = build(epochs=2, warmup_share=0.5, anomaly_repeats=1)
    run = engine(tmp_path, callbacks=[Rates()], num_sanity_val_steps=0, limit_val_batches=0, **limit)
    run.fit(model, datamodule=data)
    steps = 2 * model.steps_per_epoch
    assert rates == pytest.approx([1e-4 * min(1, (step + 1) / (0.5 * steps)) for step in range(len(rates))])


# ---- few-shot ------------------------------------------------------------------------------------------------------


def few_shot(trained, **options) -> PromptAD:
    return PromptAD(weights=trained[2], visualizer=False, **options)


@pytest.mark.parametrize("kind", ["plain", "zero_shot"])
def test_few_shot_takes_normal_training_images_of_the_target(trained, tested, tmp_path, kind: str) -> None:
    def datamodule():
        folder = Folder(**tested)
        return folder if kind == "plain" else ZeroShot(target=folder, num_workers=0)

    model = few_shot(trained, k_shot=3)
    assert model.learning_type is LearningType.FEW_SHOT
    assert model.describe()["few_shot"] == "3 normal images of the target"
    run = engine(tmp_path)
    run.test(model, datamodule=datamodule())
    found = model.model.references
    assert set(found) == {"flange", None}

    again = few_shot(trained, k_shot=3)
    engine(tmp_path).test(again, datamodule=datamodule())
    assert torch.equal(again.model.references[None], found[None])  # drawn by the seed of the data alone
    every = few_shot(trained, k_shot=6)
    engine(tmp_path).test(every, datamodule=datamodule())
    files = sorted((Path(tested["root"]) / "good").glob("*.png"))
    by_hand = few_shot(trained, k_shot=6, few_shot_source=Path(tested["root"]) / "good")
    by_hand.trainer = None
    by_hand.model.load_clip()
    assert len(files) == 6
    torch.testing.assert_close(every.model.references[None], by_hand._references()[None], rtol=0, atol=1e-5)

    zero = few_shot(trained)
    assert zero.learning_type is LearningType.ZERO_SHOT
    assert "few_shot" not in zero.describe()
    folder = Path(tested["root"]) / "more" / "good"
    one, other = (predictions(each, tmp_path, folder) for each in (by_hand, zero))
    assert not torch.allclose(one, other, atol=1e-6)
    assert zero.model.references == {}


@pytest.mark.parametrize("kind", ["plain", "zero_shot"])
def test_few_shot_never_takes_an_image_that_is_tested(trained, tested, tmp_path, kind: str) -> None:
    arguments = {key: value for key, value in tested.items() if key != "normal_test_dir"}
    folder = Folder(**arguments, val_split_mode="none", test_split_mode="from_dir")
    data = folder if kind == "plain" else ZeroShot(target=folder, num_workers=0)
    model = few_shot(trained, k_shot=6)
    with pytest.raises(ValueError, match=r"k_shot=6.*has [05] normal images of 'flange'.*few_shot_source"):
        engine(tmp_path).test(model, datamodule=data)


def test_few_shot_without_images_says_what_to_give(trained, tested, tmp_path) -> None:
    folder = Path(tested["root"]) / "more" / "good"
    with pytest.raises(ValueError, match="give their folder as few_shot_source"):
        predictions(few_shot(trained, k_shot=2), tmp_path, folder)
    with pytest.raises(ValueError, match="has 4 images, k_shot asks for 5"):
        predictions(few_shot(trained, k_shot=5, few_shot_source=folder), tmp_path, folder)
    with pytest.raises(ValueError, match="give their folder as few_shot_source"):
        few_shot(trained, k_shot=2).to_torch(tmp_path)


def test_few_shot_images_of_each_class(trained, tested, tmp_path) -> None:
    second = Folder(**{**tested, "name": "ring"})
    data = ZeroShot(target=[Folder(**tested), second], num_workers=0)
    model = few_shot(trained, k_shot=2)
    engine(tmp_path).test(model, datamodule=data)
    assert set(model.model.references) == {"flange", "ring"}
    with pytest.raises(ValueError, match="class_name='bolt' names one class, but the data has flange, ring"):
        engine(tmp_path).test(few_shot(trained, k_shot=2, class_name="bolt"), datamodule=data)
    with pytest.raises(ValueError, match="give their folder as few_shot_source"):
        model.to_torch(tmp_path)


@pytest.mark.parametrize("kind", ["ZeroShot", "plain"])
def test_classes_that_share_a_word_keep_their_own_images(trained, tmp_path, kind: str) -> None:
    kinds = {"ring": 21, "disc": 22}
    for name, seed in kinds.items():
        paint_parts(tmp_path / name / "train", seed, normal=2, anomalous=0)
        paint_parts(tmp_path / name / "test", seed + 10, normal=2, anomalous=2)
    index = {
        split: {
            name: [
                {
                    "img_path": path.relative_to(tmp_path).as_posix(),
                    "anomaly": int(path.parent.name == "cut"),
                    "mask_path": f"{name}/test/mask/{path.name}" if path.parent.name == "cut" else "",
                }
                for path in sorted((tmp_path / name / split).glob("*/*.png"))
                if path.parent.name != "mask"
            ]
            for name in kinds
        }
        for split in ("train", "test")
    }
    (tmp_path / "meta.json").write_text(json.dumps(index))

    def scores(*names: str) -> dict[str, float]:
        words = {"class_words": "object", "num_workers": 0}
        data = MetaJson(tmp_path, category=list(names), **words)
        if kind == "ZeroShot":
            data = ZeroShot(target=data, target_categories=list(names), **words)
        batches = engine(tmp_path / "runs").predict(few_shot(trained, k_shot=2), datamodule=data)
        return {
            path: score.item()
            for batch in batches
            for path, score in zip(batch.image_path, batch.pred_score, strict=True)
        }

    assert scores(*kinds) == pytest.approx(scores("ring") | scores("disc"), abs=1e-5)


# ---- export --------------------------------------------------------------------------------------------------------


def test_an_exported_graph_has_the_words_and_images_in_it_and_no_text_tower(trained, tested, tmp_path) -> None:
    folder = Path(tested["root"]) / "good"
    model = few_shot(trained, class_name="screw", k_shot=2, few_shot_source=folder).eval()
    path = model.to_onnx(tmp_path)
    graph = onnx.load(path).graph
    names = [one.name for one in graph.initializer]
    numbers = sum(math.prod(one.dims) for one in graph.initializer)
    clip = model.model.load_clip()
    vision = sum(value.numel() for value in clip.visual.buffers())
    text = sum(value.numel() for value in clip.text.buffers())
    learned = sum(value.numel() for value in model.model.parameters())
    assert not [name for name in names if ".text." in name or "token_embedding" in name]
    # Besides weights: positions, matrices of smoothing and up-sampling, two texts. Blocks behind the last tap are gone.
    assert numbers < vision + learned + 2 * 112**2 + 10_000 < vision + text
    block = sum(value.numel() for value in clip.visual.transformer.resblocks[0].buffers())
    assert numbers < vision + learned + 2 * 112**2 + 10_000 - 2 * block

    compiled = openvino_core().compile_model(
        openvino_core().read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    pixels = torch.rand(2, 3, 96, 130)
    with torch.no_grad():
        wanted = model(pixels)
    torch.testing.assert_close(
        torch.from_numpy(compiled(pixels.numpy())["pred_score"]), wanted.pred_score, rtol=0, atol=1e-4
    )
    zero = few_shot(trained, class_name="screw").eval()
    with torch.no_grad():
        zero.model.load_clip()
        assert not torch.allclose(zero(pixels).pred_score, wanted.pred_score, atol=1e-5)


# ---- protocols -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["leave_one_out_mvtec", "leave_one_out_aitex"])
def test_protocols_are_read_by_the_command_line(name: str) -> None:
    cli = AnomalibCLI(
        args=["train", "--config", str(EXPERIMENTS / f"{name}.yaml"), "--data.seed", "3"],
        run=False,
    )
    data = cli.datamodule
    assert isinstance(cli.model, PromptAD)
    assert isinstance(data, ZeroShot)
    assert (data.seed, data.max_anomalies_per_class, data.train_batch_size) == (3, 1, 16)
    assert data.one_defect_type_per_class
    assert len(data._source_classes) == {"leave_one_out_mvtec": 14, "leave_one_out_aitex": 6}[name]
    assert not {one.category for one in data._source_classes} & {one.category for one in data._target_classes}


@pytest.mark.parametrize(("most", "trained_on"), [(1, 1), (11, 10)])
def test_leave_one_category_out(tmp_path, most: int, trained_on: int) -> None:
    arguments = yaml.safe_load((EXPERIMENTS / "leave_one_out_mvtec.yaml").read_text())["data"]["init_args"]
    for number, category in enumerate(("bottle", "screw", "wood")):
        root = tmp_path / "mvtec" / category
        paint_parts(root / "train", seed=10 + number, normal=4, anomalous=0, size=24)
        paint_parts(root / "test", seed=number, normal=4, anomalous=15, size=24)
        (root / "ground_truth").mkdir()
        for mask in (root / "test" / "mask").rename(root / "ground_truth" / "cut").iterdir():
            mask.rename(mask.with_stem(f"{mask.stem}_mask"))

    def draw(seed: int) -> ZeroShot:
        sets = {"source": MVTecAD(tmp_path / "mvtec"), "target": MVTecAD(tmp_path / "mvtec")}
        data = ZeroShot(**{
            **arguments, **sets, "num_workers": 0, "seed": seed, "max_anomalies_per_class": most,
            "source_categories": ["screw", "wood"], "exclude_classes": None, "target_categories": ["bottle"],
        })  # fmt: skip
        data.setup("fit")
        return data

    first = draw(0).train_data.samples
    anomalies = first[first.label_index == 1]
    assert dict(anomalies.category.value_counts()) == {"screw": trained_on, "wood": trained_on}
    assert set(draw(0).test_data.samples.category) == {"bottle"}
    assert set(first.category) == {"screw", "wood"}
    draws = {tuple(draw(seed).train_data.samples.query("label_index == 1").image_path) for seed in range(4)}
    assert len(draws) > 1
