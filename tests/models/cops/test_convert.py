# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Published CoPS checkpoints."""

from __future__ import annotations

import pytest
import torch

from anomalib_zsad.adapters import AdapterError, check_tensors
from anomalib_zsad.models.cops.config import CoPSConfig
from anomalib_zsad.models.cops.convert import convert_official
from anomalib_zsad.models.cops.torch_model import CoPSModel

WIDTH = 24


def checkpoint(width=WIDTH):
    shapes = {
        "ctx_pos": (1, 1, 14, width), "ctx_neg": (1, 1, 14, width), "t_n": (6, width), "t_a": (6, width),
        "extractor.attn.in_proj_weight": (3 * width, width), "extractor.attn.in_proj_bias": (3 * width,),
        **{f"compound_prompts_text.{index}": (4, width) for index in range(8)},
    }  # fmt: skip
    for layer in ("extractor.attn.out_proj", "extractor.mlp.c_fc", "extractor.mlp.c_proj", "vae_decoder.net.0",
                  "vae_decoder.net.2"):  # fmt: skip
        shapes |= {f"{layer}.weight": (width, width), f"{layer}.bias": (width,)}
    for layer in ("extractor.ln_1", "extractor.ln_2"):
        shapes |= {f"{layer}.weight": (width,), f"{layer}.bias": (width,)}
    return {"prompt_learner": {key: torch.randn(shape).half() for key, shape in shapes.items()}}


def test_the_released_sizes_fill_the_default_model():
    tensors = convert_official(checkpoint(768))
    check_tensors(tensors, CoPSModel(CoPSConfig.resolve({})).state_dict())
    assert all(value.dtype == torch.float32 for value in tensors.values())
    encoder = ("vae.hidden", "vae.mean", "vae.log_var")
    assert all(value.isnan().all() == name.startswith(encoder) for name, value in tensors.items())


def test_values_arrive():
    found = checkpoint()["prompt_learner"]
    tensors = convert_official({"prompt_learner": found})
    assert torch.equal(tensors["prompts"][1], found["ctx_neg"][0, 0].float())
    assert torch.equal(tensors["queries"][0], found["t_n"].float())
    assert torch.equal(tensors["deep_tokens"][7], found["compound_prompts_text.7"].float())
    assert torch.equal(tensors["extractor.c_proj.bias"], found["extractor.mlp.c_proj.bias"].float())
    assert torch.equal(tensors["vae.decoder.2.weight"], found["vae_decoder.net.2.weight"].float())


@pytest.mark.parametrize("key", sorted(checkpoint()["prompt_learner"]))
def test_each_missing_or_misshapen_tensor_is_named(key):
    found = checkpoint()
    value = found["prompt_learner"].pop(key)
    if not key.startswith("compound_prompts_text.7"):  # the last deep layer may be absent: then there are seven
        with pytest.raises(AdapterError, match="missing"):
            convert_official(found)
    for wrong in (value[..., :-1], value[None], torch.zeros(())):
        found["prompt_learner"][key] = wrong
        with pytest.raises(AdapterError, match="of another shape"):
            convert_official(found)


def test_unknown_tensors_and_other_files_are_refused():
    found = checkpoint()
    found["prompt_learner"]["token_prefix_pos"] = torch.zeros(1)
    with pytest.raises(AdapterError, match="not known: token_prefix_pos"):
        convert_official(found)
    for other in ({"MyModel": {}}, {}, {"prompt_learner": torch.zeros(2)}, {"prompt_learner": {"t_n": "text"}}):
        with pytest.raises(AdapterError, match="prompt_learner"):
            convert_official(other)
    with pytest.raises(AdapterError, match="missing"):
        convert_official({"prompt_learner": {}})


def test_another_width_does_not_fit():
    with pytest.raises(AdapterError, match="of another shape"):
        check_tensors(convert_official(checkpoint()), CoPSModel(CoPSConfig.resolve({})).state_dict())


def test_part_of_an_encoder_is_no_encoder():
    found = checkpoint()
    found["prompt_learner"]["vae_encoder.mean.bias"] = torch.zeros(WIDTH)
    with pytest.raises(AdapterError, match=r"missing: vae_encoder\.net\.0\.weight"):
        convert_official(found)
