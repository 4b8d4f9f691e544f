# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Tensors of a published CLIP file, read without running anything that lies in it."""

from __future__ import annotations

import hashlib
import math
import pickle  # noqa: S403 - as the base of an unpickler that refuses every class
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

_OPENAI_MARKS = frozenset({"input_resolution", "context_length", "vocab_size"})
_COMPRESSED_CODE = 2**26  # bytes; that of OpenAI's archives unfolds to 2**22
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class ArchiveError(ValueError):
    """The file is damaged, of another kind, or wants code to be run."""


class Archive(NamedTuple):
    """What :func:`read_archive` returns.

    Attributes:
        tensors (dict[str, Tensor]): Weights in float32 under their OpenAI names.
        openai (bool): Whether the file carries the entries that only OpenAI's own releases have.
        metadata (dict[str, str]): Header of a safetensors file; empty for the others.
    """

    tensors: dict[str, Tensor]
    openai: bool
    metadata: dict[str, str]


def read_archive(path: Path) -> Archive:
    """Read a state dict (``.pt``, ``.pth``, ``.bin``), a TorchScript archive or a ``.safetensors`` file.

    The kind is told by the content, except for safetensors. Names are brought to the OpenAI layout: a ``state_dict``
    entry is opened, the prefixes ``module.`` and ``text.`` are dropped.

    Raises:
        ArchiveError: If the file is damaged, truncated, no weights file, or refers to code.
    """
    metadata: dict[str, str] = {}
    try:
        entries = dict(_read_entries(path, metadata))
    except (ArchiveError, PermissionError):
        raise
    except Exception as error:
        msg = (
            f"{path} ({path.stat().st_size} bytes) cannot be read as CLIP weights: it is truncated, damaged, of "
            "another kind, or needs code to be run. Readable are state dicts (.pt, .pth, .bin), TorchScript archives "
            "in OpenAI's layout, and .safetensors."
        )
        raise ArchiveError(msg) from error
    if any(name.startswith("vision_model.") for name in entries):
        msg = (
            f"{path} has the layout of Hugging Face transformers; take OpenAI's or open_clip's file of the same model."
        )
        raise ArchiveError(msg)
    tensors = {
        name: value for name, value in entries.items() if isinstance(value, Tensor) and name not in _OPENAI_MARKS
    }
    return Archive(tensors, not _OPENAI_MARKS.isdisjoint(entries), metadata)


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file; remembered while the process lives and the file is unchanged."""
    stat = path.stat()
    return _sha256(str(path.resolve()), stat.st_size, stat.st_mtime_ns)


@cache
def _sha256(path: str, _size: int, _modified: int) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb", buffering=0) as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()


def check_zip(path: Path) -> None:
    """Refuse a zip archive that unfolds: PyTorch stores tensors as they are, and compresses the code beside them only.

    Raises:
        ArchiveError: If its members, compressed or lying upon each other, are together much larger than the file.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        size = sum(max(entry.file_size, entry.compress_size) for entry in archive.infolist())
    if size > path.stat().st_size + _COMPRESSED_CODE:
        msg = f"{path} would unfold to {size} bytes; PyTorch writes no such archive. Refused; nothing was read."
        raise ArchiveError(msg)


def _read_entries(path: Path, metadata: dict[str, str]) -> Iterator[tuple[str, Any]]:
    check_zip(path)
    if path.suffix == ".safetensors":
        entries = _safetensors(path, metadata)
    elif zipfile.is_zipfile(path) and _folder_of(path, "constants.pkl"):
        entries = _torchscript(path)
    else:
        entries = _state_dict(path)
    for name, value in entries:
        if isinstance(value, Tensor):  # one at a time: beside the result only the tensor at hand is in memory
            try:
                value = _own(value)  # noqa: PLW2901
            except FloatingPointError as error:
                msg = f"{path} has {error} in {name}. It is damaged; copy or download it again."
                raise ArchiveError(msg) from error
        yield name.removeprefix("module.").removeprefix("text."), value


def _own(value: Tensor) -> Tensor:
    """A copy in float32. One that repeats its values goes on doing so: a few bytes must not unfold into terabytes."""
    value = value.detach()
    if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
        msg = f"no plain tensor: {value.layout}, device {value.device}, {value.dtype}"
        raise ValueError(msg)
    stored = value.untyped_storage().nbytes() // value.itemsize
    repeated = value.numel() > stored
    seen = value.as_strided((stored,), (1,), 0) if repeated else value
    own = seen.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    if not math.isfinite(own.sum()):
        msg = "NaN or infinite values"
        raise FloatingPointError(msg)
    return own.as_strided(value.shape, value.stride(), value.storage_offset()) if repeated else own


def _safetensors(path: Path, metadata: dict[str, str]) -> Iterator[tuple[str, Tensor]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata.update(file.metadata() or {})
        for key in file.keys():  # noqa: SIM118 - not a mapping
            yield key, file.get_tensor(key)


def _state_dict(path: Path) -> Iterator[tuple[str, Tensor]]:
    # mapped, so that only the tensors of the model are ever read, one at a time
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    if isinstance(content, Mapping):
        content = content.get("state_dict", content)
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        msg = f"{path} holds no state dict (a mapping of names to tensors)."
        raise ArchiveError(msg)
    yield from content.items()


# --- TorchScript ------------------------------------------------------------------------------------------------------


class _InFile(NamedTuple):
    """A tensor that has not been read yet."""

    dtype: torch.dtype
    key: str
    numel: int
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _folder_of(path: Path, member: str) -> str | None:
    """Top folder of a zip archive if ``member`` lies directly in it."""
    with zipfile.ZipFile(path) as archive:
        return next((name.split("/")[0] for name in archive.namelist() if name.split("/")[1:] == [member]), None)


def _torchscript(path: Path) -> Iterator[tuple[str, Any]]:
    root = _folder_of(path, "constants.pkl")
    with zipfile.ZipFile(path) as archive:
        with archive.open(f"{root}/data.pkl") as file:
            module = _unpickle(file, path)
        for name, value in _leaves(module):
            if not isinstance(value, _InFile):
                yield name, value
            elif not name.endswith(".attn_mask"):  # the causal mask, an attribute of every text block
                yield name, _read(archive, f"{root}/data/{value.key}", value)


def _unpickle(file: Any, path: Path) -> Any:
    # Made anew for every file: whatever a pickle sets on them with BUILD is gone with them.
    class Module:
        def __setstate__(self, state: Any) -> None:
            self.state = state

    def rebuild(storage: tuple[torch.dtype, str, int], offset: int, size: Any, stride: Any, *_: Any) -> _InFile:
        return _InFile(*storage, offset, tuple(size), tuple(stride))

    def untag(value: Any, *_: Any) -> Any:
        return value

    allowed = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): rebuild,
        ("torch.jit._pickle", "restore_type_tag"): untag,
        **{("torch.jit._pickle", f"build_{kind}list"): untag for kind in ("int", "tensor", "double", "bool")},
        **{("torch", name): dtype for name, dtype in _STORAGES.items()},
    }

    class Inert(pickle.Unpickler):  # noqa: S301
        def find_class(self, module: str, name: str) -> Any:
            if module == "__torch__" or module.startswith("__torch__."):
                return Module
            if (module, name) in allowed:
                return allowed[module, name]
            msg = f"{path} refers to {module}.{name}, which a CLIP archive has no use for. Refused; nothing was run."
            raise ArchiveError(msg)

        def persistent_load(self, pid: Any) -> tuple[torch.dtype, str, int]:
            kind, dtype, key, _device, numel = pid
            if kind != "storage" or not isinstance(dtype, torch.dtype):
                msg = f"{path} refers to {kind!r}, expected a tensor's storage. Refused; nothing was run."
                raise ArchiveError(msg)
            return dtype, str(key), int(numel)

    return Inert(file).load()


def _leaves(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    state = getattr(value, "state", None)
    if isinstance(state, dict) and depth < 16:
        for key, child in state.items():
            yield from _leaves(child, f"{name}.{key}" if name else str(key), depth + 1)
    else:
        yield name, value


def _read(archive: zipfile.ZipFile, member: str, tensor: _InFile) -> Tensor:
    entry = archive.getinfo(member)
    # sizes are checked first: a few bytes must not unfold into terabytes
    if entry.file_size != tensor.numel * tensor.dtype.itemsize or entry.compress_size != entry.file_size:
        msg = f"{member} has {entry.file_size} bytes, its header says {tensor.numel} x {tensor.dtype}."
        raise ValueError(msg)
    if math.prod(tensor.size) > tensor.numel:
        msg = f"A tensor of shape {tensor.size} does not fit into the {tensor.numel} values of {member}."
        raise ValueError(msg)
    values = torch.frombuffer(bytearray(archive.read(entry)), dtype=tensor.dtype)
    return values.as_strided(tensor.size, tensor.stride, tensor.offset)
