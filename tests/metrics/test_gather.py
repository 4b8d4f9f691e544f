# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Calibration on two devices: two real processes against one that saw everything."""

from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from anomalib_zsad.calibration import CalibratedPostProcessor
from anomalib_zsad.data.batches import AuxiliaryBatch


def share(number: int) -> AuxiliaryBatch:
    """What process ``number`` sees: only the first one's images have masks."""
    draw = torch.Generator().manual_seed(number)
    labels = torch.arange(10 + number) % 2 == 1
    masks = labels[:, None, None] & (torch.rand(len(labels), 8, 8, generator=draw) < 0.2)
    return AuxiliaryBatch(
        image=torch.zeros(len(labels), 3, 8, 8),
        gt_label=labels,
        gt_mask=masks,
        pred_score=0.5 * torch.rand(len(labels), generator=draw) + 0.4 * labels,
        anomaly_map=0.6 * torch.rand(len(labels), 8, 8, generator=draw) + 0.3 * masks,
        has_mask=torch.full((len(labels),), number == 0),
    )


def calibrate(*shares: AuxiliaryBatch) -> dict[str, list[float]]:
    processor = CalibratedPostProcessor()
    processor.on_validation_epoch_start(None, None)
    for batch in shares:
        processor.on_validation_batch_end(None, None, batch)
    processor.on_validation_epoch_end(None, None)
    return processor.statistics()


def work(rank: int, shares: list[AuxiliaryBatch], folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save(calibrate(shares[rank]), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow  # each process imports anomalib; forked ones hang where PyTorch has had threads
def test_two_processes_calibrate_as_one(tmp_path: Path) -> None:
    shares = [share(0), share(1)]
    mp.start_processes(work, (shares, str(tmp_path)), nprocs=2, start_method="spawn")
    whole = calibrate(*shares)
    assert set(whole) == {"image_knots", "pixel_knots"}
    assert [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)] == [whole, whole]
    assert calibrate(shares[0])["image_knots"] != whole["image_knots"]
