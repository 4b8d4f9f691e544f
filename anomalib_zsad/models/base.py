# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What the torch parts of all methods share: the schema's common fields and the late arrival of CLIP."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from anomalib_zsad.clip.config import ClipConfig
from anomalib_zsad.clip.model import Clip
from anomalib_zsad.clip.vision import VisionOutput
from anomalib_zsad.data.words import OBJECT

if TYPE_CHECKING:
    from anomalib_zsad.feature_cache import FeatureCache

logger = logging.getLogger(__name__)

AnyClass = TypeVar("AnyClass", bound=type)

INIT_STD = 0.02
"""Standard deviation of new weights and prompt vectors, as in CLIP."""


class MethodConfig(BaseModel):
    """Fields that every method has.

    A method's schema is the single source of names, defaults, ranges and help texts. ``backbone`` and ``image_size``
    may be ``None`` in what a user writes; :meth:`resolve` fills them in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    default_backbone: ClassVar[str] = "ViT-L-14-336"
    default_image_size: ClassVar[int] = 518
    fixed_by_adapter: ClassVar[frozenset[str]] = frozenset({"backbone"})
    """Fields that shape the learned tensors: they cannot differ from the adapter's."""
    never_from_adapter: ClassVar[frozenset[str]] = frozenset({"seed", "cache", "cache_dir"})
    """Fields that say how to use a model and not how it was trained: an adapter's values do not matter."""

    if TYPE_CHECKING:
        epochs: int  # every method has its own default

    backbone: str | None = Field(
        default=None,
        description="CLIP architecture by its open_clip name; ``surfaces-tiny``, a small CLIP that comes with the "
        "package and knows generated surfaces only; or ``tiny-random``, which knows nothing. "
        "``None``: the one the adapter was trained with, otherwise the method's own.",
    )
    pretrained: str | None = Field(
        default=None,
        description="Weights of the backbone: an open_clip tag, a local file in OpenAI or open_clip layout, or "
        "``random:SEED``. ``None``: OpenAI's, or the only ones the backbone has.",
    )
    activation: Literal["recorded", "gelu", "quick_gelu"] = Field(
        default="recorded",
        description="Activation of the towers: the one recorded with the weights, or knowingly another one.",
    )
    image_size: int | None = Field(
        default=None,
        gt=0,
        description="Side of the square input in pixels, a multiple of the backbone's patch size. "
        "``None``: the adapter's, otherwise the method's own.",
    )

    seed: int | None = Field(
        default=None,
        ge=0,
        description="Seed of the initial values and of everything random in training. ``None``: not seeded. "
        "(anomalib 2.7 reads ``seed_everything`` and does nothing with it.)",
    )
    cache: Literal["none", "memory", "disk"] = Field(
        default="none",
        description="Where training keeps what the frozen image tower gives, in half precision, so that each picture "
        "passes the tower once and not once per epoch: ``none``, ``memory`` or ``disk``. The size is logged and "
        "checked before training. Pictures that are augmented at random gain nothing.",
    )
    cache_dir: str | Path | None = Field(
        default=None,
        description="Folder for ``cache=disk``, shared by trainings and safe to delete. ``None``: ``features`` in "
        "``$ANOMALIB_ZSAD_HOME``, else in ``anomalib_zsad`` in the user's cache.",
    )

    @field_validator("cache_dir")
    @classmethod
    def _plain(cls, folder: str | Path | None) -> str | None:
        return None if folder is None else str(folder)  # checkpoints are read without unpickling classes

    @model_validator(mode="after")
    def _folder_is_used(self) -> Self:
        if self.cache_dir is not None and self.cache != "disk":
            msg = f"cache_dir is used with cache='disk' only, not with cache={self.cache!r}."
            raise ValueError(msg)
        return self

    @classmethod
    def resolve(cls, arguments: Mapping[str, Any], adapter: Mapping[str, Any] | None = None) -> Self:
        """Make a complete config from constructor arguments and, if there is one, from an adapter's config.

        A field left at its default takes the adapter's value (but for :attr:`never_from_adapter`), also if it was given
        the value of the default: the two cannot be told apart. A field that differs from both wins, unless it shapes
        the learned tensors (:attr:`fixed_by_adapter`).

        Args:
            arguments (Mapping[str, Any]): Values by field name.
            adapter (Mapping[str, Any] | None): The config that an adapter was trained with.

        Raises:
            ValueError: If a value is out of range, does not fit the backbone or contradicts the adapter. Each problem
                is named with the allowed values.
        """
        values = dict(arguments)
        replaced = []
        for name, trained in (adapter or {}).items():
            if name in cls.never_from_adapter:
                continue
            default = cls.model_fields[name].default
            given = values.get(name, default)
            if given == default:
                values[name] = trained
                replaced += [f"{name}={trained!r}"] if default is not None and trained != default else []
            elif name in cls.fixed_by_adapter and given != trained:
                msg = (
                    f"The adapter was trained with {name}={trained!r}, but {name}={given!r} was asked for. "
                    f"Leave {name} out to use the adapter's, or train an adapter with {name}={given!r}."
                )
                raise ValueError(msg)
        if replaced:  # no warning: whoever uses an adapter that was trained with options of its own would get it
            logger.info("The adapter's values stand for the defaults of the same name: %s.", ", ".join(replaced))
        for name, default in (("backbone", cls.default_backbone), ("image_size", cls.default_image_size)):
            values[name] = default if values.get(name) is None else values[name]
        try:
            config = cls(**values)
        except ValidationError as error:
            raise ValueError("; ".join(map(_describe, error.errors()))) from None
        return config.fitted(config.sizes)

    @property
    def sizes(self) -> ClipConfig:
        """Sizes of the backbone. Reads no weights."""
        from anomalib_zsad.clip.weights import clip_config

        return clip_config(self.default_backbone if self.backbone is None else self.backbone)

    def fitted(self, sizes: ClipConfig) -> Self:
        """Check the config against the backbone and fill in what follows from it. Methods extend this."""
        patch = sizes.vision.patch_size
        if self.image_size is not None and self.image_size % patch:
            below = max(self.image_size // patch, 1) * patch
            msg = (
                f"image_size={self.image_size} is not a multiple of {self.backbone}'s patch size {patch}; "
                f"use {below} or {below + patch}."
            )
            raise ValueError(msg)
        return self


def _describe(problem: Mapping[str, Any]) -> str:
    where = ".".join(map(str, problem["loc"]))
    text = problem["msg"].removeprefix("Value error, ")
    return f"{where}={problem['input']!r}: {text}" if where else text


def check_layers(layers: Sequence[int], depth: int, backbone: str | None) -> list[int]:
    """Check 1-based block numbers: ascending, without repetition, within ``1..depth``.

    Raises:
        ValueError: Naming the blocks that exist.
    """
    if not layers or sorted(set(layers)) != list(layers) or layers[0] < 1 or layers[-1] > depth:
        msg = f"layers={list(layers)}: expected ascending numbers out of 1..{depth}, the image blocks of {backbone}."
        raise ValueError(msg)
    return list(layers)


def check_heads(num_heads: int, width: int, what: str) -> None:
    """Check that attention heads share a width evenly; ``what`` says which width that is.

    Raises:
        ValueError: Naming the numbers that do.
    """
    if width % num_heads:
        allowed = [heads for heads in range(1, 33) if width % heads == 0]
        msg = f"num_heads={num_heads} does not divide {what}; use one of {allowed}."
        raise ValueError(msg)


def check_prompt(length: int, sizes: ClipConfig, backbone: str | None, lower: str) -> None:
    """Check that a prompt of ``length`` tokens fits the text tower.

    Raises:
        ValueError: Naming the options to ``lower``.
    """
    if length > sizes.text.context_length:
        msg = (
            f"A prompt of {length} tokens does not fit the {sizes.text.context_length} positions of {backbone}; "
            f"lower {lower}."
        )
        raise ValueError(msg)


def quarter_layers(depth: int) -> list[int]:
    """The four quarter points of an image tower: 6, 12, 18, 24 of 24 blocks.

    Example:
        >>> quarter_layers(24), quarter_layers(8)
        ([6, 12, 18, 24], [2, 4, 6, 8])
    """
    return [max(1, round(depth * quarter / 4)) for quarter in (1, 2, 3, 4)]


def document(schema: type[MethodConfig]) -> Callable[[AnyClass], AnyClass]:
    """Class decorator: put the schema's help texts where the class docstring says ``{fields}``."""

    def write(cls: AnyClass) -> AnyClass:
        lines = [f"{name}: {field.description}" for name, field in schema.model_fields.items()]
        wrapped = [textwrap.fill(line, 112, subsequent_indent="    ") for line in lines]
        cls.__doc__ = (cls.__doc__ or "").replace("{fields}", textwrap.indent("\n".join(wrapped), " " * 8).lstrip())
        return cls

    return write


def init_linear(module: nn.Module) -> None:
    """Draw the weights of every linear layer of ``module`` from N(0, 0.02^2) and clear the biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=INIT_STD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class MethodModel(nn.Module):
    """Torch part of a method: the learned tensors from the start, the frozen CLIP when it is first needed.

    Construction reads no weights and needs no network, so that ``get_model(name)`` works anywhere.

    Args:
        config (MethodConfig): A resolved config.

    Attributes:
        view (dict[str, Any]): What of the image tower the method reads, as keyword arguments of the tower.
        cache (FeatureCache | None): What stands in for the tower in a training from kept features.
    """

    clip: Clip | None
    view: dict[str, Any]
    cache: FeatureCache | None = None
    losses: Callable[..., dict[str, Tensor]]
    """``losses(output, labels, masks, has_mask)``: the terms of the training loss, weights included."""

    def __init__(self, config: MethodConfig) -> None:
        super().__init__()
        self.config = config
        self.sizes = config.sizes
        self.register_module("clip", None)

    positions: ClassVar[Literal["bicubic_antialias", "bicubic", "bilinear"]] = "bicubic_antialias"
    """How the method resamples CLIP's positional embedding."""

    def load_clip(self) -> Clip:
        """The frozen towers, read on the first call and put where the learned tensors are."""
        if self.clip is None:
            from anomalib_zsad.clip.weights import load_clip

            clip = load_clip(
                self.config.backbone or self.config.default_backbone,
                self.config.pretrained,
                activation=self.config.activation,
                image_size=self.config.image_size,
                positions=self.positions,
            )
            learned = next(self.parameters())
            self.clip = clip.to(learned.device, learned.dtype)
        return self.clip

    def class_words(self, class_names: Sequence[str] | None) -> list[str]:
        """Class words of the prompts: the config's one for all images, else each image's own.

        Args:
            class_names (Sequence[str] | None): Class word of each image, if known.
        """
        word = getattr(self.config, "class_name", None)
        return list(class_names) if word is None and class_names is not None else [word or OBJECT]

    def see(self, images: Tensor) -> VisionOutput:
        """What the image tower gives for ``images`` ``(B, 3, H, W)``: class token and patch tokens, not projected.

        For methods whose tower is frozen and sees no learnable token.
        """
        tower = self.load_clip().visual
        return tower(images, **self.view) if self.cache is None else self.cache(partial(tower, **self.view), images)
