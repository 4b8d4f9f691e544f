# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Our forward passes against open_clip's own, on the same weights.

The weights are random: every one of them, biases and gains included, is far from the value at which it has no effect.
"""

from dataclasses import replace

import open_clip
import pytest
import torch
from open_clip.model import CLIP, resize_pos_embed

from anomalib_zsad.clip.model import Clip
from anomalib_zsad.clip.random_weights import random_weights
from anomalib_zsad.clip.tokenizer import tokenize
from anomalib_zsad.clip.weights import OWN, clip_config

TOLERANCE = 1e-5  # of the largest feature; float32 carries 1e-7 per operation
PROMPTS = ["", "hazelnut", "a photo of a damaged metal nut, close up.", "hole " * 75]


def weights_of(config):
    """Random weights; biases and gains, which start at 0 and 1, get noise on top."""
    generator = torch.Generator().manual_seed(0)
    state = random_weights(config, seed=0)
    for name, tensor in state.items():
        if tensor.ndim == 1 and name != "visual.class_embedding":
            state[name] = tensor + 0.1 * torch.randn(tensor.shape, generator=generator)
    return state


def open_clip_model(name, layers, quick, size, state):
    """open_clip's model, its positional embedding resampled by its own code."""
    if name in OWN:
        vision, text = OWN[name].vision, OWN[name].text
        sizes = {"embed_dim": OWN[name].embed_dim, "vision_cfg": vars(vision).copy(), "text_cfg": vars(text).copy()}
        sizes["vision_cfg"]["head_width"] = vision.width // sizes["vision_cfg"].pop("heads")
    else:
        sizes = open_clip.get_model_config(name)
    sizes["vision_cfg"]["image_size"] = size
    if layers:
        sizes["vision_cfg"]["layers"] = sizes["text_cfg"]["layers"] = layers
    with torch.device("meta"):
        model = CLIP(sizes["embed_dim"], sizes["vision_cfg"], sizes["text_cfg"], quick_gelu=quick)
    state = dict(state)
    resize_pos_embed(state, model)
    model.load_state_dict(state, assign=True)
    length = model.context_length
    model.attn_mask = torch.full((length, length), float("-inf")).triu(1)  # the one buffer without a stored value
    return model.eval()


def difference(ours, theirs):
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def compare(name, *, size, quick, layers=None, activation=None):
    config = clip_config(name)
    if layers:
        config = replace(config, vision=replace(config.vision, layers=layers), text=replace(config.text, layers=layers))
    state = weights_of(config)
    theirs = open_clip_model(name, layers, quick, size, state)
    ours = Clip(config, state, activation=activation or ("quick_gelu" if quick else "gelu"), image_size=size)
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    ids = tokenize(PROMPTS)
    with torch.no_grad():
        image = difference(ours.encode_image(images), theirs.encode_image(images))
        text = difference(ours.encode_text(ids), theirs.encode_text(ids))
    print(f"\n{name} layers={layers or 'all'} {size} px quick={quick}: image {image:.1e}, text {text:.1e}")
    assert image < TOLERANCE, "image"
    assert text < TOLERANCE, "text"


@pytest.mark.parametrize("size", [224, 98, 518])
@pytest.mark.parametrize("quick", [False, True])
def test_tiny(quick, size):
    compare("tiny-random", quick=quick, size=size)


# 518 px is 37 patches of 14; the nearest that patches of 16 allow is 512
@pytest.mark.parametrize(
    ("name", "size", "quick"),
    [
        ("ViT-B-16", 224, True),
        ("ViT-B-16", 512, False),
        ("ViT-L-14-336", 336, True),
        ("ViT-L-14-336", 518, True),
        ("ViT-H-14", 224, False),
    ],
)
def test_two_layers_of_the_real_width(name, size, quick):
    compare(name, layers=2, quick=quick, size=size)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"), [("ViT-B-16", 224), ("ViT-B-16", 512), ("ViT-L-14-336", 336), ("ViT-L-14-336", 518)]
)
def test_all_layers(name, size):
    compare(name, quick=True, size=size)


def test_the_activation_matters():
    with pytest.raises(AssertionError, match="image"):
        compare("tiny-random", quick=True, size=224, activation="gelu")
