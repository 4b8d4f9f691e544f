# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What a method costs on top of the bare CLIP image tower: one process, the two measured in turn.

    python benchmarks/speed.py PromptMoE BayesPFL CoPS --backbone ViT-L-14-336 --image-size 518
    python benchmarks/speed.py PromptMoE --train --batch 16

Weights are random (``random:0``): they cost the same as published ones. Prints, for each method, the median of the
ratios and of the seconds; with ``--train``, the peak memory of one optimiser step instead.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch
from anomalib.models import get_model


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def ratios(name: str, options: argparse.Namespace, extra: dict[str, str]) -> None:
    """Print how many bare towers one evaluation of a batch costs."""
    model = build(name, options, extra).eval()
    clip = model.model.load_clip()
    images = torch.randn(options.batch, 3, clip.image_size, clip.image_size)
    label = " ".join([name, *(f"{key}={value}" for key, value in extra.items())])
    with torch.inference_mode():
        clip.encode_image(images), model.model(images)  # warm-up
        pairs = [
            (seconds(lambda: clip.encode_image(images)), seconds(lambda: model.model(images)))
            for _ in range(options.repeat)
        ]
    for kind, index in (("wall", 0), ("cpu", 1)):
        ratio = statistics.median(method[index] / bare[index] for bare, method in pairs)
        bare, method = (statistics.median(pair[side][index] for pair in pairs) for side in (0, 1))
        print(f"{label:50} {kind:4} {ratio:6.3f} x the bare tower   ({method:.2f} s / {bare:.2f} s)", flush=True)


def step_memory(name: str, options: argparse.Namespace, extra: dict[str, str]) -> None:
    """Print the peak memory of the process before and during one optimiser step."""
    model = build(name, options, extra).train()
    size = model.model.load_clip().image_size
    before = peak()
    labels = torch.arange(options.batch) % 2 == 0
    masks = torch.zeros(options.batch, size, size, dtype=torch.bool)
    masks[labels, : size // 4, : size // 4] = True
    optimizer = torch.optim.Adam(model.parameters())
    output = model.model(torch.randn(options.batch, 3, size, size))
    losses = model.model.losses(output, labels, masks, torch.ones_like(labels))
    torch.stack(list(losses.values())).sum().backward()
    optimizer.step()
    learned = sum(parameter.numel() for parameter in model.parameters())
    print(f"{name} batch {options.batch}: peak {peak():.2f} GB, {before:.2f} GB before the step; {learned:,} learned")


def build(name: str, options: argparse.Namespace, extra: dict[str, str]) -> torch.nn.Module:
    """Make a model with random weights."""
    return get_model(name, backbone=options.backbone, pretrained="random:0", image_size=options.image_size, **extra)


def peak() -> float:
    """Peak resident memory of this process in GB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Measure the methods given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+", help="class names; options follow after commas: PromptMoE,top_k=2")
    parser.add_argument("--backbone", default="ViT-L-14-336")
    parser.add_argument("--image-size", type=int, default=518)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--train", action="store_true", help="peak memory of one optimiser step")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for method in options.methods:
        name, *pairs = method.split(",")
        (step_memory if options.train else ratios)(name, options, dict(pair.split("=") for pair in pairs))


if __name__ == "__main__":
    main()
