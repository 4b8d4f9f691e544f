# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""anomalib's pictures for runs over several classes."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from anomalib.data import ImageBatch, ImageItem, NumpyImageBatch, NumpyImageItem
from anomalib.utils.path import generate_output_filename
from anomalib.visualization import ImageVisualizer
from anomalib.visualization.image.functional import add_text_to_image, visualize_anomaly_map
from lightning.pytorch import LightningModule, Trainer
from PIL import Image

from anomalib_zsad.clip.config import CLIP_MEAN, CLIP_STD
from anomalib_zsad.data.reading import is_deep_file, read_image
from anomalib_zsad.preprocessing import ClipPreProcessor


class ZeroShotVisualizer(ImageVisualizer):
    """anomalib's visualizer, with a folder for each class and the score on every picture.

    anomalib names a picture by file and folder, so ``bottle/test/good/000.png`` and ``cable/test/good/000.png`` would
    be one picture. Here images that know their category (:class:`anomalib_zsad.data.batches.ZeroShotItem`) are written
    to ``images/bottle/test/good/000.png``: below the category comes what follows the category in the image's path, or
    the image's folder where the path does not have the category. Categories that several data sets share are called
    ``<data set>/<category>`` by the data, and so become two folders. All other images are named as by anomalib.

    Score and verdict stand in the lower left corner (``text_config={"enable": False}`` removes all text). An image
    without a file, or of more than 8 bits per channel, is shown as the model saw it. A mask that is only filler
    (``has_mask`` False) is not shown.

    Maps that a method gives beside the anomaly map (``batch.extra_maps``, see
    :meth:`anomalib_zsad.zero_shot.ZeroShotMixin.forward`) follow to the right, each on its own scale.

    Takes the arguments of :class:`anomalib.visualization.ImageVisualizer`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.text_config["size"] is None:  # anomalib's choice cuts the longest title off
            self.text_config["size"] = max(10, min(self.field_size) // 14)

    def visualize(
        self, predictions: ImageItem | NumpyImageItem | ImageBatch | NumpyImageBatch
    ) -> Image.Image | list[Image.Image | None] | None:
        """Draw predictions.

        Args:
            predictions (ImageItem | NumpyImageItem | ImageBatch | NumpyImageBatch): One or several.

        Returns:
            Image.Image | list[Image.Image | None] | None: One picture for an item or a batch of one, else a list;
            ``None`` stands for an image of which there is nothing to show.
        """
        if not isinstance(predictions, ImageBatch | NumpyImageBatch):
            return self._picture(_scaled(predictions))
        pictures = [self._picture(_scaled(item)) for item in predictions]
        return pictures[0] if len(pictures) == 1 else pictures

    def _picture(self, item: Any) -> Image.Image | None:
        if not getattr(item, "has_mask", True):
            item = item.update(in_place=False, gt_mask=None)
        picture: Any = super().visualize(item)
        if picture is None or item.pred_score is None or not self.text_config["enable"]:
            return picture
        text = f"{float(item.pred_score):.2f}"
        if item.pred_label is not None:
            text += " anomalous" if bool(item.pred_label) else " normal"
        style = {key: value for key, value in self.text_config.items() if key != "enable"}
        return add_text_to_image(picture, text, position=(10, picture.height - style["size"] - 12), **style)

    def _beside(self, picture: Image.Image, maps: dict[str, torch.Tensor]) -> Image.Image:
        """Add a panel for each extra map ``(1, H, W)``, coloured from its own minimum to its own maximum."""
        panels = [picture]
        for name, values in maps.items():
            panel = visualize_anomaly_map(values.detach().float().cpu()[0], normalize=True).resize(self.field_size)
            style = {key: value for key, value in self.text_config.items() if key != "enable"}
            title = name.replace("_", " ").title()
            panels.append(add_text_to_image(panel, title, **style) if self.text_config["enable"] else panel)
        whole = Image.new("RGB", (sum(panel.width for panel in panels), picture.height))
        for index, panel in enumerate(panels):
            whole.paste(panel, (sum(before.width for before in panels[:index]), 0))
        return whole

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: ImageBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the pictures of a batch; prediction ends here, too."""
        del outputs, dataloader_idx
        root = Path(self.output_dir or Path(trainer.default_root_dir) / "images")
        extra_maps: dict[str, torch.Tensor] = getattr(batch, "extra_maps", {})
        for index, item in enumerate(batch):
            has_file = item.image_path is not None and Path(item.image_path).is_file()
            drawable = has_file and not is_deep_file(item.image_path)
            shown = item if drawable else item.update(in_place=False, image=_seen(item, pl_module), image_path=None)
            picture = self._picture(shown)
            if picture is not None:
                picture = self._beside(picture, {name: maps[index] for name, maps in extra_maps.items()})
                picture.save(_output_path(item, f"{batch_idx:05}_{index:02}.png", root, trainer))


def _scaled(item: Any) -> Any:
    """An item with pixels instead of its file, if that has more than 8 bits per channel: anomalib would cut them."""
    if not is_deep_file(getattr(item, "image_path", None)):
        return item
    with suppress(OSError):  # the file does not say what white is
        image = read_image(item.image_path)
        pixels = image.permute(1, 2, 0).numpy() if isinstance(item, NumpyImageItem) else image
        return item.update(in_place=False, image=pixels, image_path=None)
    return item


def _seen(item: Any, pl_module: LightningModule) -> torch.Tensor:
    """Undo the normalisation: an image ``(3, H, W)`` in [0, 1]."""
    image = item.image.detach().cpu().as_subclass(torch.Tensor)
    if isinstance(getattr(pl_module, "pre_processor", None), ClipPreProcessor):
        mean, std = (torch.tensor(values, dtype=image.dtype).reshape(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
        image = image * std + mean
    return image.clamp(0, 1)


def _output_path(item: ImageItem, nameless: str, root: Path, trainer: Trainer) -> Path:
    path = item.image_path or nameless
    if category := getattr(item, "category", None):
        # A category is a name that a user may have chosen: it must not lead out of the folder.
        folders = [part for part in re.split(r"[/\\]", category) if part not in {"", ".", ".."}]
        return generate_output_filename(path, root.joinpath(*folders), dataset_name=category.rpartition("/")[2])
    datamodule = getattr(trainer, "datamodule", None)
    name, category = (getattr(datamodule, attribute, None) for attribute in ("name", "category"))
    return generate_output_filename(path, root, dataset_name=name, category=category)
