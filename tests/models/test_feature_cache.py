# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Training from kept features: the same losses, nothing foreign, nothing half-written, and far less work."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.data import Folder as FolderData
from anomalib.engine import Engine
from anomalib.models import get_model
from lightning.pytorch import Callback
from torch import nn
from torchvision.transforms.v2 import RandomErasing

from anomalib_zsad.clip.vision import VisionOutput
from anomalib_zsad.data import ZeroShot
from anomalib_zsad.feature_cache import ABANDONED_SECONDS, FeatureCache, Folder, open_cache
from tests.conftest import QUIET, TINY

CACHED = ["PromptMoE", "BayesPFL", "CoPS", "PromptAD"]
FORK = multiprocessing.get_context("fork")


def build(name: str = "PromptMoE", **options):
    torch.manual_seed(0)
    return get_model(name, **{**TINY, "cache": "memory", **options})


def images(count: int = 3, size: int = 112, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    labels = torch.arange(len(batch)) % 2 == 0
    masks = torch.zeros(len(batch), *batch.shape[-2:], dtype=torch.bool)
    masks[labels, : batch.shape[-1] // 3, : batch.shape[-1] // 4] = True
    torch.manual_seed(0)
    return torch.stack(list(model.losses(model(batch), labels, masks, torch.ones_like(labels)).values())).sum()


class Runs:
    """Batch sizes with which a tower ran."""

    def __init__(self, tower: nn.Module) -> None:
        self.sizes: list[int] = []
        tower.register_forward_hook(lambda _tower, given, _output: self.sizes.append(len(given[0])))


# ---- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CACHED)
def test_known_images_give_what_the_tower_gave_and_the_tower_rests(name: str) -> None:
    model = build(name).model.train()
    exact = model.see(images())
    runs = Runs(model.load_clip().visual)
    model.cache = open_cache(model, 3)
    with torch.inference_mode():  # as in a validation
        missed = model.see(images())
    found = model.see(images())
    assert (runs.sizes, model.cache.hits) == ([3], 3)
    for first, again, true in zip(*([seen.cls, *seen.patches] for seen in (missed, found, exact)), strict=True):
        assert torch.equal(first, again)
        # Rounded to nearest with 11 bits; below 2^-14 in steps of 2^-24.
        assert ((again - true).abs() <= (2**-11 * true.abs()).clamp(min=2**-25)).all()
    loss(model, images()).backward()
    assert any(value.grad is not None and value.grad.abs().sum() > 0 for value in model.parameters())
    assert runs.sizes == [3]


def test_only_unknown_images_of_a_batch_pass_the_tower() -> None:
    model = build().model
    runs = Runs(model.load_clip().visual)
    whole = model.see(images(5))
    model.cache = open_cache(model, 5)
    model.see(images(5)[[1, 3]])
    mixed = model.see(images(5))
    assert (runs.sizes, model.cache.hits) == ([5, 2, 3], 2)
    for some, every in zip(mixed.patches, whole.patches, strict=True):
        torch.testing.assert_close(some, every, rtol=2**-10, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"image_size": 126},
        {"pretrained": "random:7"},
        {"activation": "quick_gelu"},
        {"layers": [1, 2]},
        {"patch_features": "projection"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_another_tower_or_another_look_at_it_finds_nothing(options: dict, tmp_path) -> None:
    def hits(images: torch.Tensor, precision: str = "32-true", **options) -> int:
        model = build(cache="disk", cache_dir=tmp_path, **options).model
        model.cache = open_cache(model, 9, precision=precision)
        model.see(images)
        return model.cache.hits

    assert hits(images()) == 0
    assert hits(images()) == 3
    assert hits(images(), precision="bf16-mixed") == 0
    assert hits(images(size=options.get("image_size", 112)), **options) == 0


def test_another_picture_finds_nothing() -> None:
    model = build().model
    model.cache = open_cache(model, 9)
    model.see(images())
    changed = images()
    changed[1, 2, 50, 60] = torch.nextafter(changed[1, 2, 50, 60], torch.tensor(9.0))
    model.see(changed)
    assert model.cache.hits == 2
    model.see(images().flip(-1))
    assert model.cache.hits == 0


def test_a_picture_that_is_twice_in_a_batch_passes_once() -> None:
    model = build().model
    runs = Runs(model.load_clip().visual)
    model.cache = open_cache(model, 3)
    twice = model.see(images()[[0, 1, 0]])
    assert runs.sizes == [2]
    assert model.cache.budget == 1
    assert torch.equal(twice.cls[0], twice.cls[2])


# ---- training ------------------------------------------------------------------------------------------------------


class Losses(Callback):
    """Loss of every step, and runs of the image tower in every epoch."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.runs: list[int] = []

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        if not self.runs:
            self._tower = Runs(pl_module.model.load_clip().visual)
        self._tower.sizes.clear()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.values.append(float(outputs["loss"]))

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.runs.append(sum(self._tower.sizes))


def fit(model, parts: dict, folder: Path, epochs: int = 2, **options) -> Losses:
    data = ZeroShot(
        source=FolderData(**parts["washer"]), num_workers=0, calibration_ratio=0.2, train_batch_size=4, **options
    )
    losses = Losses()
    engine = Engine(
        default_root_dir=folder, max_epochs=epochs, callbacks=[losses], num_sanity_val_steps=0, logger=False, **QUIET
    )
    engine.fit(model, datamodule=data)
    return losses


@pytest.mark.parametrize("name", CACHED)
def test_losses_agree_to_rounding_for_two_epochs(name: str) -> None:
    plain, cached = (build(name).model.train() for _ in range(2))
    cached.cache = cache = open_cache(cached, 4)
    optimizers = [torch.optim.Adam(model.parameters(), lr=model.config.learning_rate) for model in (plain, cached)]
    for step in range(4):
        batch = images(4)[2 * (step % 2) :][:2]
        cached.cache = None
        with torch.no_grad():
            exact = loss(cached, batch)
        cached.cache = cache
        losses = loss(plain, batch), loss(cached, batch)
        assert cache.hits == (0 if step < 2 else 2)
        # With the same parameters, the loss is no farther off than a feature.
        torch.testing.assert_close(losses[1], exact, rtol=2**-11, atol=0)
        # Adam's first steps are signs of gradients: those that rounding turns round move by a whole learning rate.
        torch.testing.assert_close(*losses, rtol=1e-2, atol=0)
        for value, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()


@pytest.mark.parametrize("options", [{}, {"anomaly_repeats": 3}], ids=["PromptMoE", "PromptAD"])
def test_an_engine_trains_from_the_cache(options: dict, parts, tmp_path, caplog) -> None:
    name = "PromptAD" if options else "PromptMoE"  # PromptAD's batches are episodes, in which pictures repeat
    options = {"seed": 1, "image_size": 56, "visualizer": False, **options}
    on_disk = {**options, "cache": "disk", "cache_dir": tmp_path / "features"}
    plain = fit(build(name, **options, cache="none"), parts, tmp_path)
    model = build(name, **on_disk)
    with caplog.at_level("INFO", "anomalib_zsad"):
        cached = fit(model, parts, tmp_path)
    assert "Feature cache: 24 images x" in caplog.text
    assert "0 images already there" in caplog.text
    assert plain.runs[1] >= 24
    assert cached.runs == [24, 0]  # those of the calibration included
    np.testing.assert_allclose(cached.values, plain.values, rtol=1e-2)
    assert model.model.cache is None  # tests, predictions and exports are without
    adapters = list(tmp_path.rglob("adapter/*.safetensors"))
    assert adapters
    assert not [path for path in adapters if str(tmp_path).encode() in path.read_bytes()]

    if name == "PromptMoE":
        warm = fit(build(name, **on_disk), parts, tmp_path)
        assert warm.runs == [0, 0]
        assert warm.values == cached.values


def test_pictures_that_change_at_random_are_reported_once_and_do_not_fill_the_disk(parts, tmp_path, caplog) -> None:
    options = {"image_size": 56, "visualizer": False}
    model = build("CoPS", cache="disk", cache_dir=tmp_path / "features", **options)
    with caplog.at_level("WARNING", "anomalib_zsad"):
        losses = fit(model, parts, tmp_path, epochs=3, train_augmentations=RandomErasing(p=1.0))
    assert losses.runs[1] >= 19
    assert caplog.text.count("no picture of the second epoch was the same") == 1
    assert len(list(tmp_path.glob("features/*/*.npy"))) == 24


def test_dapo_says_why_it_has_none() -> None:
    for option in ("memory", "disk"):
        with pytest.raises(ValueError, match=r"cache='.*DAPO learns tokens inside the image tower.*cannot be kept"):
            get_model("DAPO", cache=option, **TINY)
    assert get_model("DAPO", cache="none", **TINY).config.cache == "none"


def test_a_folder_without_a_cache_on_disk_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="cache_dir is used with cache='disk' only"):
        build(cache="memory", cache_dir="somewhere")


# ---- room ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cache", "error"), [("disk", OSError), ("memory", MemoryError)])
def test_room_is_checked_before_anything_is_written(cache: str, error: type, tmp_path) -> None:
    model = build(cache=cache, cache_dir=tmp_path if cache == "disk" else None).model
    with pytest.raises(error, match=r"features of 1000000000 images need \d+\.\d GB .* free in .*cache='none'"):
        open_cache(model, 10**9)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_full_disk_ends_the_keeping_and_not_the_training(tmp_path, caplog) -> None:
    model = build(cache="disk", cache_dir=tmp_path).model
    model.cache = open_cache(model, 9)
    known = model.see(images(2))
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = next(tmp_path.rglob("*.npy")).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, before[1]))
    try:
        seen = model.see(images(5))
        again = model.see(images(5))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert torch.equal(seen.cls[:2], known.cls)
    assert torch.equal(seen.cls, again.cls)
    assert model.cache.hits == 2
    assert caplog.text.count("training goes on: writing failed") == 1
    assert sorted(path.suffix for path in tmp_path.rglob("*") if path.is_file()) == [".npy", ".npy"]


def test_features_beyond_half_precision_are_refused() -> None:
    cache = FeatureCache({}, [1, 4], 9)
    with pytest.raises(OverflowError, match=r"up to 7e\+04 do not fit half precision.*cache='none'"):
        cache(lambda x: VisionOutput(torch.full((len(x), 2), 7e4), (torch.zeros(len(x), 4, 2),)), images(1, 8))


# ---- files ---------------------------------------------------------------------------------------------------------


def table(key: int, rows: int = 3000) -> np.ndarray:
    return np.full((rows, 64), key, np.float16) + np.arange(rows, dtype=np.float16)[:, None] / 4


def write(path: Path, done, count: int = 10**6) -> None:
    folder = Folder(path)
    for number in range(count):
        folder[str(number % 7)] = table(number % 7)
        done.value += 1


def check(path: Path) -> int:
    folder = Folder(path)
    for file in path.glob("*.npy"):
        np.testing.assert_array_equal(folder.get(file.stem), table(int(file.stem)))
    return len(folder)


def test_killed_at_any_moment_an_entry_is_whole_or_absent(tmp_path) -> None:
    rng = random.Random(0)
    for kill in range(12):
        done = FORK.Value("i", lock=False)
        writer = FORK.Process(target=write, args=(tmp_path, done))
        writer.start()
        deadline = time.monotonic() + 10
        while done.value < kill and time.monotonic() < deadline:
            pass
        time.sleep(rng.uniform(0, 0.005))
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        check(tmp_path)
    assert check(tmp_path) == 7
    parts = list(tmp_path.glob("*.part"))
    assert parts  # killed in the middle of writing; they may belong to others ...
    for part in parts:
        os.utime(part, (time.time() - 2 * ABANDONED_SECONDS,) * 2)
    Folder(tmp_path)  # ... until they are old
    assert not list(tmp_path.glob("*.part"))


def test_processes_fill_one_folder_at_once(tmp_path) -> None:
    done = FORK.Value("i", lock=False)
    writers = [FORK.Process(target=write, args=(tmp_path, done, 30)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert check(tmp_path) == 7
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("size", [0, 50, 5000])
def test_a_damaged_file_counts_as_absent_and_is_replaced(size: int, tmp_path) -> None:
    folder = Folder(tmp_path)
    folder["1"] = table(1)
    path = tmp_path / "1.npy"
    path.write_bytes(path.read_bytes()[:size])
    assert folder.get("1") is None
    folder["1"] = table(1)
    assert check(tmp_path) == 1


# ---- cost ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backbone", "size"),
    [("BayesPFL", "ViT-L-14-336", 518), ("CoPS", "ViT-L-14-336", 518), ("PromptMoE", "ViT-L-14-336", 518),
     ("PromptAD", "ViT-L-14-336", 518)],
)  # fmt: skip
def test_a_step_from_the_cache_costs_at_most_a_tenth(name: str, backbone: str, size: int, tmp_path) -> None:
    options = {"backbone": backbone, "pretrained": "random:0", "image_size": size}
    model = build(name, cache="disk", cache_dir=tmp_path, **options).model.train()
    model.cache = open_cache(model, 2)
    optimizer = torch.optim.Adam([value for value in model.parameters() if value.requires_grad], lr=1e-5)
    seconds = {}
    for hits, seed in ((0, 0), (0, 1), (1, 0), (1, 1)):  # the first step has warmed up when the second begins
        begun = time.process_time()
        optimizer.zero_grad()
        loss(model, images(1, size, seed)).backward()
        optimizer.step()
        seconds[hits] = time.process_time() - begun
        assert model.cache.hits == hits
    print(f"{name} {backbone} {size} px: {seconds[1]:.2f} s of {seconds[0]:.2f} s, {seconds[1] / seconds[0]:.3f}")
    assert seconds[1] <= 0.1 * seconds[0]
