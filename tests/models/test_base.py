# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What a user says, what an adapter was trained with, and the defaults: which of them a config takes."""

from pathlib import Path

import pytest
import torch

from anomalib_zsad.adapters import Adapter, AdapterError
from anomalib_zsad.clip.weights import read_weights
from anomalib_zsad.models.bayes_pfl import BayesPFL
from anomalib_zsad.models.dapo import DAPO
from anomalib_zsad.models.promptad import PromptAD
from anomalib_zsad.models.promptmoe import PromptMoE
from anomalib_zsad.models.promptmoe.config import PromptMoEConfig

TINY = {"backbone": "tiny-random", "image_size": 112}


def test_no_value_is_a_value_where_it_is_not_the_default() -> None:
    adapter = PromptMoEConfig.resolve({**TINY, "class_name": "bolt"}).model_dump()
    assert PromptMoEConfig.resolve({}, adapter).class_name == "bolt"
    assert PromptMoEConfig.resolve({"class_name": None}, adapter).class_name is None
    assert PromptMoEConfig.resolve({"layers": None, "image_size": None}, adapter).layers == [2, 4, 6, 8]


def test_what_an_adapter_has_in_place_of_the_defaults_is_told(caplog: pytest.LogCaptureFixture) -> None:
    adapter = PromptMoEConfig.resolve({**TINY, "class_name": "bolt", "top_k": 2, "epochs": 9}).model_dump()
    with caplog.at_level("INFO", "anomalib_zsad.models.base"):
        PromptMoEConfig.resolve({"class_name": "object", "epochs": 3}, adapter)
        PromptMoEConfig.resolve({}, PromptMoEConfig.resolve(TINY).model_dump())
    (record,) = caplog.records
    assert record.levelname == "INFO"  # an adapter trained with options, used without any, is no reason to warn
    assert record.getMessage().endswith("stand for the defaults of the same name: class_name='bolt', top_k=2.")


@pytest.mark.parametrize("name", ["clip.pt", "clip"])
def test_an_adapter_does_not_keep_where_the_backbone_lay_on_this_machine(name: str, tmp_path: Path) -> None:
    torch.save(read_weights("tiny-random").state_dict, tmp_path / name)
    model = PromptMoE(**TINY, pretrained=str(tmp_path / name), activation="gelu")
    path = model.save_adapter(tmp_path / "adapter.safetensors")
    assert Adapter.load(path, "PromptMoE").config["pretrained"] is None
    (tmp_path / name).unlink()
    PromptMoE(weights=path).configure_model()  # by another way to the same weights


def test_a_checkpoint_in_place_of_an_adapter_is_told_apart(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "model.ckpt")
    with pytest.raises(AdapterError, match=r"model\.ckpt is a checkpoint of a training.*--ckpt_path"):
        PromptMoE(weights=tmp_path / "model.ckpt")


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ({"layers": []}, r"layers=\[\]: expected"),
        ({"image_size": 0}, "image_size=0"),
        ({"backbone": ""}, "backbone ''"),
    ],
)
@pytest.mark.parametrize("method", [BayesPFL, DAPO, PromptAD, PromptMoE])
def test_an_empty_value_is_a_mistake_and_not_the_default(method: type, option: dict, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        method(**{**TINY, **option})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_adapter_saved_in_half_precision_knows_its_backbone(dtype: torch.dtype, tmp_path: Path) -> None:
    model = PromptMoE(**TINY)
    model.configure_model()
    path = model.to(dtype).save_adapter(tmp_path / "adapter.safetensors")
    PromptMoE(weights=path).configure_model()
    late = PromptMoE(weights=path).to(dtype)  # and the other way round: the towers are read when the precision is set
    late.configure_model()
    assert late.model.load_clip().logit_scale.dtype == dtype


@pytest.mark.parametrize(
    ("method", "options", "problem"),
    [
        (PromptMoE, {"num_heads": 7}, r"tiny-random's text width 64; use one of \[1, 2, 4, 8, 16, 32\]\."),
        (BayesPFL, {"num_heads": 7}, r"tiny-random's joint width 64; use one of \[1, 2, 4, 8, 16, 32\]\."),
        (PromptMoE, {"context_tokens": 64}, "prompt of 78 tokens does not fit the 77 .*; lower normal_tokens"),
        (BayesPFL, {"context_tokens": 70}, "prompt of 78 tokens does not fit the 77 .*; lower context_tokens"),
    ],
)
def test_what_does_not_fit_the_backbone_is_named_with_the_fix(method: type, options: dict, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        method(**TINY, **options)
