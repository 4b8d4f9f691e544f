# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Training on several devices waits for the gradient of every learned tensor, whatever a batch lacks."""

import pytest
import torch
from anomalib.models import get_model
from torch import distributed
from torch.nn.parallel import DistributedDataParallel


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """A group of one process: it waits as larger ones do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        store = tmp_path_factory.mktemp("group") / "store"
        distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
        yield
        distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("CoPS", {}),
        ("CoPS", {"deep_layers": 0, "reconstruction": True}),
        ("DAPO", {"num_prompts": 2}),
        ("DAPO", {"num_prompts": 2, "text_tokens": 0, "vision_tokens": 0}),
        ("PromptAD", {"mask_supervision": True}),
        ("PromptMoE", {}),
        ("PromptMoE", {"patch_features": "projection", "context_tokens": 0}),
    ],
    ids=str,
)
def test_batches_without_masks_reach_every_learned_tensor(one_process, name: str, options: dict) -> None:
    torch.manual_seed(0)
    model = get_model(name, backbone="tiny-random", image_size=56, **options).model.train()
    model.load_clip()
    parallel = DistributedDataParallel(model)
    images, labels, masks = torch.rand(3, 3, 56, 56), torch.tensor([False, True, True]), torch.zeros(3, 56, 56).bool()
    for known in (False, True, False):  # the second pass is refused if the first left a gradient out
        losses = model.losses(parallel(images), labels, masks, torch.full((3,), known))
        sum(losses.values()).backward()
    assert all(value.grad is not None for value in model.parameters() if value.requires_grad)
