# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Ways to score a picture by text prompts alone, compared on validation pictures of seen classes.

    python benchmarks/picture_scores.py --images 640

Prints the image AUROC in percent, mean over classes, of what the evaluation of a backbone takes (the mean of the map's
highest pixels and of the class token) and of other ways. Classes that are called unseen take no part, nor do the test
pictures.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from anomalib_zsad.clip.weights import load_clip
from anomalib_zsad.functional import topk_mean
from anomalib_zsad.metrics import evaluate
from anomalib_zsad.pretraining.detectors import TOP, text_alone
from anomalib_zsad.pretraining.picture_sets import generated_sets

SHARES = (0.0, TOP, 0.01, 0.03, 0.1)
"""Of a map's pixels, the highest of which speak for it."""


def ways(scores: Tensor, maps: Tensor, patch: int) -> dict[str, Tensor]:
    """Scores ``(B,)`` from those of ``text_alone`` and its maps ``(B, S, S)``."""
    pixels = maps[0].numel()
    highest = {share: topk_mean(maps, max(1, round(share * pixels))) for share in SHARES}
    found = {"as evaluated": scores, "class token": 2 * scores - highest[TOP]}
    found |= {f"highest {share:.1%} of the map" if share else "highest pixel": highest[share] for share in SHARES}
    found["sum of exponentials over patches"] = F.avg_pool2d(maps[:, None], patch).flatten(1).logsumexp(1)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="surfaces-tiny")
    parser.add_argument("--images", type=int, default=640)
    options = parser.parse_args()

    clip = load_clip(options.backbone)
    detect, patch = text_alone(clip), clip.config.vision.patch_size
    for pictures in generated_sets(options.images, clip.image_size, split="val")[:2]:
        print(f"{pictures.name}, {options.images} validation pictures, {clip.name}")
        batches = list(pictures.batches())
        found = [ways(*detect(batch.images, batch.words), patch) for batch in batches]
        labels, words = torch.cat([batch.labels for batch in batches]), [w for batch in batches for w in batch.words]
        for way in found[0]:
            figures = evaluate(torch.cat([one[way] for one in found]), labels, None, None, words).mean
            print(f"  {way:34} {100 * figures['image_AUROC']:.1f}", flush=True)


if __name__ == "__main__":
    main()
