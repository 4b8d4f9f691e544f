# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""The resize that exported graphs make, against torchvision's in double precision."""

from pathlib import Path

import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from anomalib_zsad.deploy.engines import openvino_core
from anomalib_zsad.functional import resize_bicubic

SIZES = [(334, 459), (321, 199), (56, 40), (112, 112), (1, 7), (17, 3000)]


def exact(images: torch.Tensor, side: int) -> torch.Tensor:
    return resize(images.double(), [side, side], InterpolationMode.BICUBIC, antialias=True)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [112, 518])
def test_it_is_that_of_torchvision_in_double_precision(size, side):
    """Torchvision's own in float32 is up to 4e-5 from that: it rounds the places of the pixels."""
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(resize_bicubic(images, side).double(), exact(images, side), rtol=0, atol=1e-6)


class Resizing(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return resize_bicubic(images, 112)


def test_it_is_the_same_in_an_exported_graph_for_every_size(tmp_path: Path):
    path, dynamic = tmp_path / "resize.onnx", {"images": {2: torch.export.Dim("h"), 3: torch.export.Dim("w")}}
    torch.onnx.export(Resizing(), (torch.rand(1, 3, 90, 80),), path, dynamo=True, dynamic_shapes=dynamic)
    core = openvino_core()
    graph = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for size in SIZES:
        images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
        found = torch.from_numpy(graph(images.numpy())[0]).double()
        assert torch.allclose(found, exact(images, 112), rtol=0, atol=1e-6)
