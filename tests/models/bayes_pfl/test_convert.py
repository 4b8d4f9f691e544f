# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Released checkpoints: every tensor arrives, and files that are none are refused. Values are in tests/parity."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from anomalib import LearningType
from torch import Tensor

from anomalib_zsad.adapters import AdapterError
from anomalib_zsad.models.bayes_pfl import BayesPFL
from anomalib_zsad.models.bayes_pfl.config import BayesPFLConfig
from anomalib_zsad.models.bayes_pfl.convert import _aliases, _shapes, convert_official, official_names
from anomalib_zsad.models.bayes_pfl.torch_model import BayesPFLModel

MLP = [f"{layer}.{kind}" for layer in (0, 2, 4) for kind in ("weight", "bias")]


@pytest.fixture
def model() -> BayesPFLModel:
    torch.manual_seed(0)
    return BayesPFLModel(BayesPFLConfig.resolve({"backbone": "tiny-random", "image_size": 112}))


@pytest.fixture
def released(model: BayesPFLModel) -> dict[str, Tensor]:
    """A released checkpoint with the learned tensors of ``model``, aliases and dead weights included."""
    tensors = dict(model.named_parameters())
    width, flows = tensors["state_distribution.u"].shape[2], tensors["state_distribution.u"].shape[1]
    shapes = {
        ".state": (1, width), ".amor_u": (1, flows, width, 1), ".amor_w": (1, flows, 1, width),
        ".amor_b": (1, flows, 1, 1), "q_proj_pre.weight": (width, width, 1),
    }  # fmt: skip
    state = {}
    for ours, names in official_names(4).items():
        parts = tensors[ours].detach() if len(names) == 2 else tensors[ours].detach()[None]
        for name, part in zip(names, parts, strict=True):
            shape = next((shape for suffix, shape in shapes.items() if name.endswith(suffix)), part.shape)
            state[name] = part.reshape(shape).clone()
    for which in ("context", "state"):
        for key in MLP:
            like = state[f"{which}_encoder.weight_mean.module.{key}"]
            state[f"{which}_decoder.weight_mean.module.{key}"] = torch.randn_like(like)
    for side in ("context", "normal", "abnormal"):
        state |= {f"PFL_{side}.p_mu.0.weight": torch.randn(width, width), f"PFL_{side}.p_mu.0.bias": torch.randn(width)}
    return state | {alias: state[name].clone() for alias, name in _aliases().items()}


def test_every_tensor_arrives(model: BayesPFLModel, released: dict[str, Tensor]) -> None:
    converted = convert_official({"MyModel": released})
    assert set(converted) == set(model.state_dict())
    for name, parameter in model.named_parameters():
        assert torch.equal(converted[name], parameter), name
    assert converted["stage"] == 2
    assert convert_official({"MyModel": released}, stage=1)["stage"] == 1


def test_a_released_file_is_taken_as_weights(model: BayesPFLModel, released: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"MyModel": released}, tmp_path / "train_visa.pth")
    loaded = BayesPFL(backbone="tiny-random", image_size=112, weights=tmp_path / "train_visa.pth")
    assert loaded.learning_type is LearningType.ZERO_SHOT
    assert loaded.origin == {"released_checkpoint": "train_visa.pth"}
    for name, parameter in model.named_parameters():
        assert torch.equal(loaded.model.get_parameter(name), parameter), name
    assert ".pth" in BayesPFL.__doc__


def test_result_does_not_share_memory(released: dict[str, Tensor]) -> None:
    converted = convert_official({"MyModel": released})
    converted["context_bank"].zero_()
    assert released["prompt_context"].any()


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda state: state.pop("fuse.compress.bias"), "missing: fuse.compress.bias"),
        (lambda state: state.pop("PFL_normal.amor_u"), "missing: PFL_normal.amor_u"),
        (lambda state: state.update(extra=torch.zeros(1)), "not known: extra"),
        (lambda state: state.update({"class_mapping.weight": torch.zeros(3, 3)}), "class_mapping.weight"),
        (lambda state: state.update({"PFL_abnormal.amor_w": state["PFL_abnormal.amor_u"]}), "PFL_abnormal.amor_w"),
        (lambda state: state["PFL_normal.encoder.weight_mean.module.0.bias"].add_(1), "Copies of a tensor differ"),
        (lambda state: state.pop("prompt_context"), "no released Bayes-PFL checkpoint"),
    ],
)
def test_damaged_files_are_refused(released: dict[str, Tensor], edit, problem: str) -> None:
    edit(released)
    with pytest.raises(AdapterError, match=problem):
        convert_official({"MyModel": released})


@pytest.mark.parametrize("state", [{}, {"prompt_learner": {"t_n": torch.zeros(6, 8)}}, {"MyModel": [1, 2]}])
def test_other_files_are_refused(state: dict) -> None:
    with pytest.raises(AdapterError, match="no released Bayes-PFL checkpoint"):
        convert_official(state)


def test_another_width_is_refused_where_it_is_loaded(released: dict[str, Tensor]) -> None:
    other = BayesPFLModel(BayesPFLConfig.resolve({"backbone": "ViT-B-16", "image_size": 224}))
    with pytest.raises(RuntimeError, match="size mismatch"):
        other.load_state_dict(convert_official({"MyModel": released}))


def test_released_size() -> None:
    """The number of learned tensors and values that the released ViT-L/14-336 files have."""
    model = BayesPFLModel(BayesPFLConfig.resolve({}))
    layout = {"prompt_context": torch.empty(3, 5, 768), "prompt_state_normal": torch.empty(3, 5, 768)}
    layout |= {"PFL_normal.amor_u": torch.empty(1, 10, 768, 1), "fuse.compress.weight": torch.empty(1, 512)}
    layout |= {f"RCA.linear_proj.{i}.weight": torch.empty(768, 1024, device="meta") for i in range(4)}
    shapes, aliases = _shapes(layout, _aliases()), _aliases()
    assert sum(torch.Size(shape).numel() for key, shape in shapes.items() if key not in aliases) == 27_370_017
    learned = sum(parameter.numel() for parameter in model.parameters())
    dead = [key for key in shapes if key not in aliases and ("_decoder." in key or ".p_mu." in key)]
    assert learned + sum(torch.Size(shapes[key]).numel() for key in dead) == 27_370_017
