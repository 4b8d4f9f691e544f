# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-zsad weights``: published CLIP weights, and adapters from released checkpoints."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "published CLIP weights, and adapters from released checkpoints"

RELEASED = ("BayesPFL", "CoPS")
"""Methods whose authors released checkpoints."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verbs."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    fetch = verbs.add_parser("fetch", help="download CLIP weights into the folder where every command finds them")
    fetch.add_argument("backbone", help="open_clip's name, for example ViT-L-14-336")
    fetch.add_argument("pretrained", nargs="?", default="openai", help="open_clip's tag (default: %(default)s)")
    fetch.set_defaults(run=_fetch)

    info = verbs.add_parser("info", help="sizes and tags of a backbone; with PRETRAINED, check those weights")
    info.add_argument("backbone", help="open_clip's name, or tiny-random")
    info.add_argument("pretrained", nargs="?", help="tag, file, or random:SEED; never downloads")
    info.set_defaults(run=_info)

    convert = verbs.add_parser("convert", help="make an adapter of a checkpoint that a method's authors released")
    convert.add_argument("--method", required=True, choices=RELEASED, help="whose checkpoint it is")
    convert.add_argument("checkpoint", type=Path, help="the released .pth file")
    convert.add_argument("adapter", type=Path, help="the .safetensors file to write")
    convert.set_defaults(run=_convert)


def _convert(options: argparse.Namespace) -> None:
    import anomalib_zsad

    if options.adapter.suffix != ".safetensors":
        msg = f"an adapter is a .safetensors file, not {options.adapter.name}"
        raise ValueError(msg)
    adapter = getattr(anomalib_zsad, options.method).convert(options.checkpoint)
    print(f"adapter    {adapter.save(options.adapter)}")


def _fetch(options: argparse.Namespace) -> None:
    from anomalib_zsad.clip.sources import fetch_weights
    from anomalib_zsad.clip.weights import read_weights

    weights = read_weights(options.backbone, options.pretrained)  # first, so that only sound files are put there
    print(f"file       {fetch_weights(options.backbone, options.pretrained)}")
    print(f"activation {weights.activation}")
    print(f"sha256     {weights.sha256}")


def _info(options: argparse.Namespace) -> None:
    from anomalib_zsad.clip.sources import pretrained_tags
    from anomalib_zsad.clip.weights import clip_config, read_weights

    config = clip_config(options.backbone)
    print(f"image      {config.vision}")
    print(f"text       {config.text}")
    print(f"embed_dim  {config.embed_dim}")
    print(f"tags       {', '.join(pretrained_tags(options.backbone)) or 'none'}")
    if options.pretrained is not None:
        weights = read_weights(options.backbone, options.pretrained, download=False)
        print(f"file       {weights.file or 'none, the numbers are random'}")
        print(f"activation {weights.activation}")
        print(f"sha256     {weights.sha256}")
