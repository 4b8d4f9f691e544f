# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Kinds of defect on real images: DAPO names them, PromptAD meets kinds that it has not learned.

    python benchmarks/magnetic_tiles.py dapo --root ../shared/data/magnetic_tile
    python benchmarks/magnetic_tiles.py promptad --root ../shared/data/magnetic_tile --shots 0 1 4

``--root`` holds the magnetic tile data with an ``index.csv`` (columns ``image``, ``mask``, ``type``; ``good`` is
normal). Tiles of even number are learned from, those of odd number are tested: both know the object, these are held-out
images and not objects never seen.

``dapo`` trains on all five kinds and names them on the other tiles; ``image_type_top1`` is the share of images whose
kind is found, ``image_type_chance`` that of guessing. ``promptad`` leaves one kind out at a time: normal tiles and the
other four kinds are learned from (few, with ``--anomalies``); then normal tiles and the kind left out are tested, with
words (0 shots) and with normal tiles of even number in the place of the normality text.

Prints and writes (``--output``) one row for each run, and their mean and standard deviation over seeds.
"""

from __future__ import annotations

import argparse
import csv
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from anomalib.data import Folder
from anomalib.engine import Engine

from anomalib_zsad.data import ZeroShot
from anomalib_zsad.models.dapo import DAPO
from anomalib_zsad.models.promptad import PromptAD

KINDS = {"blowhole": "hole", "break": "missing_part", "crack": "crack", "fray": "scratch", "uneven": "stain"}
"""The kinds as the data set calls them, and in words that ``surfaces-tiny`` has read: others are all the same to it."""


def arrange(root: Path, place: Path, words: Mapping[str, str], *, every: int = 1) -> None:
    """Link the tiles to ``place/<even|odd>/<normal|abnormal|masks>/<kind>/``.

    Args:
        root (Path): The data, with ``index.csv``.
        place (Path): An empty folder.
        words (Mapping[str, str]): What the kinds are called.
        every (int): Use one tile of so many of each half and kind. Defaults to ``1``.
    """
    with (root / "index.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    seen: Counter[tuple[str, str]] = Counter()
    for row in rows:
        image, kind = root / row["image"], row["type"]
        half = "odd" if int(re.findall(r"\d+", image.stem)[-1]) % 2 else "even"
        seen[half, kind] += 1
        if seen[half, kind] % every:
            continue
        kind = words.get(kind, kind)
        folder = place / half / ("normal" if kind == "good" else "abnormal") / kind
        links = {folder / image.name: image}
        if row["mask"]:
            links[place / half / "masks" / kind / Path(row["mask"]).name] = root / row["mask"]
        for link, file_path in links.items():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file_path.resolve())


def tiles(place: Path, half: str, kinds: Iterable[str], **options: Any) -> Folder:
    """One half of the tiles: all normal ones, and these kinds of defect."""
    return Folder(
        name=f"{half} tiles",
        root=place / half,
        normal_dir="normal",
        abnormal_dir=[f"abnormal/{kind}" for kind in kinds],
        mask_dir=[f"masks/{kind}" for kind in kinds],
        **options,
    )


def data(source: Folder, target: Folder, options: argparse.Namespace, **limits: Any) -> ZeroShot:
    """Learn from one, test on the other."""
    words = dict.fromkeys(("even tiles", "odd tiles"), "magnetic tile")
    return ZeroShot(source, target, class_words=words, num_workers=0, seed=options.seed, **limits)


def engine(options: argparse.Namespace, name: str) -> Engine:
    """An engine that writes below the output folder."""
    root = options.output / name / str(options.seed)
    return Engine(default_root_dir=root, logger=False, enable_progress_bar=False, max_epochs=options.epochs)


def dapo(place: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train on five kinds, name them."""
    model = DAPO(seed=options.seed, visualizer=options.pictures, **towers(options))
    both = data(tiles(place, "even", options.kinds), tiles(place, "odd", options.kinds), options)
    run = engine(options, "dapo")
    run.fit(model, datamodule=both)
    (metrics,) = run.test(model, datamodule=both)
    return [{"kind": "all five", **metrics}]


def promptad(place: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Leave one kind out at a time."""
    rows = []
    for left_out in options.kinds:
        source = tiles(place, "even", [kind for kind in options.kinds if kind != left_out])
        # Of the target, normal tiles of even number are the training split: few-shot images come from there.
        good = str(place / "odd" / "normal")
        target = Folder(
            name="odd tiles",
            root=place,
            normal_dir="even/normal",
            normal_test_dir=good,
            abnormal_dir=f"odd/abnormal/{left_out}",
            mask_dir=f"odd/masks/{left_out}",
        )
        both = data(source, target, options, max_anomalies_per_class=options.anomalies)
        run = engine(options, f"promptad/{left_out}")
        run.fit(PromptAD(seed=options.seed, visualizer=False, **towers(options)), datamodule=both)
        (adapter,) = sorted(Path(run.trainer.default_root_dir).rglob("*.safetensors"))
        for shots in options.shots:
            model = PromptAD(weights=adapter, k_shot=shots, visualizer=options.pictures)
            (metrics,) = engine(options, f"promptad/{left_out}/{shots}").test(model, datamodule=both)
            rows.append({"kind": left_out, "shots": shots, **metrics})
    return rows


def towers(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments that choose the backbone."""
    return {"backbone": options.backbone, "pretrained": options.pretrained, "image_size": options.image_size}


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=("dapo", "promptad"))
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--backbone", default="surfaces-tiny")
    parser.add_argument("--pretrained")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--epochs", type=int, help="the method's recipe by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--anomalies", type=int, help="most anomalous tiles to learn from, all kinds")
    parser.add_argument("--shots", type=int, nargs="+", default=[0, 1, 4])
    parser.add_argument("--every", type=int, default=1, help="use one tile of so many, for a quick look")
    parser.add_argument("--plain-words", action="store_true", help="call the kinds hole, missing part, crack, ...")
    parser.add_argument("--pictures", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("results/magnetic_tiles"))
    options = parser.parse_args()
    measure = {"dapo": dapo, "promptad": promptad}[options.method]
    rows = []
    with tempfile.TemporaryDirectory() as place:
        words = KINDS if options.plain_words else dict(zip(KINDS, KINDS, strict=True))
        options.kinds = tuple(words.values())
        arrange(options.root, Path(place), words, every=options.every)
        for seed in options.seeds:
            options.seed = seed
            rows += [{"seed": seed, **row} for row in measure(Path(place), options)]
    table = pd.DataFrame(rows).assign(backbone=options.backbone, image_size=options.image_size)
    table.to_csv(options.output / f"{options.method}.csv", index=False)
    groups = [name for name in ("kind", "shots") if name in table]
    values = table.drop(columns=["seed", "backbone", "image_size"])
    summary = values.groupby(groups).agg(["mean", "std"]) if len(options.seeds) > 1 else values.set_index(groups)
    print((100 * summary).round(1).T.to_string())
    if options.method == "promptad":
        print((100 * values.drop(columns="kind").groupby("shots").mean()).round(1).T.to_string())


if __name__ == "__main__":
    main()
