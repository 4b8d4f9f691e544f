# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Where published CLIP weights lie: a file, our own folder, open_clip's caches, the network."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path
from typing import NamedTuple

from anomalib_zsad.clip.archive import sha256_of_file
from anomalib_zsad.clip.config import Activation
from anomalib_zsad.files import whole
from anomalib_zsad.requirements import explained

PROBE_SECONDS = 3.0
"""How long a server may take to answer before it counts as out of reach."""

BUNDLED = {("surfaces-tiny", "v4"): Path(__file__).parent / "surfaces_tiny" / "v4.safetensors"}
"""Weights that this package brings, by backbone and tag."""

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
# QuickGELU weights that open_clip 2 lists under the plain name without saying so
_QUICK_IN_2 = {("ViT-B-16", "dfn2b"), ("ViT-B-32", "laion400m_e31"), ("ViT-B-32", "laion400m_e32")}


class WeightsNotFoundError(FileNotFoundError):
    """The weights are neither on this machine nor within reach; the message says where they may lie."""


class Tag(NamedTuple):
    """Published weights of a backbone.

    Attributes:
        activation (Activation): What they were trained with.
        url (str): Address of the file, or empty.
        hub (str): ``owner/repository/`` or ``owner/repository/file`` on the Hugging Face hub, or empty.
    """

    activation: Activation
    url: str
    hub: str

    @property
    def files(self) -> tuple[str, list[str]]:
        """Repository on the hub and the names that the file may have there, the best first."""
        repository, _, name = self.hub.rpartition("/")
        return repository, [name] if name else list(_HUB_FILES)


def plain_name(backbone: str) -> str:
    """Name of the backbone without ``-quickgelu``, which open_clip uses for an activation and not for a size."""
    return backbone.removesuffix("-quickgelu")


def is_path(pretrained: str) -> bool:
    """Whether ``pretrained`` names a file and not a tag."""
    return pretrained.endswith(SUFFIXES) or "/" in pretrained or os.sep in pretrained


def home() -> Path:
    """Folder for weights: ``$ANOMALIB_ZSAD_HOME``, else ``anomalib_zsad`` in the user's cache."""
    cache_root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("ANOMALIB_ZSAD_HOME") or f"{cache_root}/anomalib_zsad").expanduser()


@cache
def pretrained_tags(backbone: str) -> dict[str, Tag]:
    """Published weights that open_clip lists for ``backbone``, with and without ``-quickgelu``, and those we bring."""
    with explained():
        from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    plain = plain_name(backbone)
    tags = {tag: Tag("gelu", "", "") for name, tag in BUNDLED if name == plain}
    for name in (plain, f"{plain}-quickgelu"):
        for tag in list_pretrained_tags_by_model(name):
            entry = get_pretrained_cfg(name, tag)
            quick = entry.get("quick_gelu") or tag == "openai" or name != plain or (plain, tag) in _QUICK_IN_2
            tags.setdefault(tag, Tag("quick_gelu" if quick else "gelu", entry.get("url", ""), entry.get("hf_hub", "")))
    return tags


def find_weights(backbone: str, pretrained: str, *, download: bool = True) -> Path:
    """Find the file of published weights, downloading it if it is nowhere on this machine.

    Args:
        backbone (str): open_clip's name.
        pretrained (str): A tag of :func:`pretrained_tags`, or a file.
        download (bool): Whether the network may be asked. ``HF_HUB_OFFLINE=1`` forbids it too.

    Raises:
        WeightsNotFoundError: If there is no such file, within seconds when the network is out of reach.
        ValueError: If the tag is unknown.
    """
    if is_path(pretrained):
        path = Path(pretrained).expanduser()
        if not path.is_file():
            msg = f"There is no weights file {path}{' (it is a folder)' if path.is_dir() else ''}."
            raise WeightsNotFoundError(msg)
        return path
    tags = pretrained_tags(backbone)
    if pretrained not in tags:
        msg = (
            f"There are no weights {pretrained!r} for {backbone}. There are {', '.join(tags) or 'none'}; a file "
            f"needs one of the suffixes {', '.join(SUFFIXES)}; 'random' needs no file."
        )
        raise ValueError(msg)
    if bundled := BUNDLED.get((plain_name(backbone), pretrained)):
        return bundled
    tag = tags[pretrained]
    if found := _at_home(backbone, pretrained) or _in_caches(tag):
        return found
    try:
        return _download(tag, allowed=download)
    except Exception as error:
        raise WeightsNotFoundError(_how_to_get(backbone, pretrained, tag, error)) from error


def fetch_weights(backbone: str, pretrained: str) -> Path:
    """Download published weights into :func:`home`, under the name that any machine finds them by.

    Args:
        backbone (str): open_clip's name.
        pretrained (str): A tag.

    Returns:
        Path: The file, which may be carried to a machine without network.
    """
    if is_path(pretrained):
        msg = f"{pretrained} is a file already; fetched are tags: {', '.join(pretrained_tags(backbone)) or 'none'}."
        raise ValueError(msg)
    source = find_weights(backbone, pretrained)
    suffix = ".safetensors" if source.suffix == ".safetensors" else ".pt"
    target = home() / f"{plain_name(backbone)}-{pretrained}{suffix}"
    if source != target:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole(target) as partial:
            shutil.copyfile(source, partial)
    return target


def _at_home(backbone: str, tag: str) -> Path | None:
    places = (home() / f"{plain_name(backbone)}-{tag}{suffix}" for suffix in SUFFIXES)
    return next((path for path in places if path.is_file()), None)


def _in_caches(tag: Tag) -> Path | None:
    if tag.hub:
        from huggingface_hub import try_to_load_from_cache

        repository, names = tag.files
        for name in names:
            cached = try_to_load_from_cache(repository, name)
            if isinstance(cached, str):
                return Path(cached)
    if tag.url:
        path = Path("~/.cache/clip").expanduser() / tag.url.rpartition("/")[2]
        if path.is_file() and _as_published(path, tag.url):
            return path
    return None


def _as_published(path: Path, url: str) -> bool:
    """Whether a cached download is whole, as far as its address tells: some carry a checksum or its first 8 digits."""
    digests = re.findall(r"[/-]([0-9a-f]{64}|[0-9a-f]{8})(?=[/.])", url)
    return all(sha256_of_file(path).startswith(digest) for digest in digests)


def _download(tag: Tag, *, allowed: bool) -> Path:
    from open_clip.pretrained import download_pretrained

    if not allowed or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        msg = "downloads are switched off" + " by HF_HUB_OFFLINE" * allowed
        raise ConnectionError(msg)
    hub = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    failed: Exception = ConnectionError("no address is known")
    # asked one by one and only when in reach: the hub's client retries for minutes otherwise
    for entry, server in (({"hf_hub": tag.hub}, hub), ({"url": tag.url}, tag.url)):
        if not all(entry.values()):
            continue
        try:
            _probe(server)
            return Path(download_pretrained(entry))
        except Exception as error:  # noqa: BLE001 - whatever the client raises, the other address may work
            failed = error
    raise failed


def _probe(url: str) -> None:
    """Raise unless the server answers at all within :data:`PROBE_SECONDS`."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLError):  # it answered; the client has certificates of its own
            raise


def _how_to_get(backbone: str, pretrained: str, tag: Tag, error: Exception) -> str:
    repository, names = tag.files
    published = [f"{tag.url.rpartition('/')[2]} from {tag.url}"] if tag.url else []
    published += [f"{' or '.join(names)} of huggingface.co/{repository}"] if tag.hub else []
    place = home() / f"{plain_name(backbone)}-{pretrained}"
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return (
        f"The weights {pretrained!r} of {backbone} are not on this machine and could not be downloaded ({reason}).\n"
        f"The file is {', or '.join(published)}.\n"
        "It may lie in one of two places:\n"
        f"  {place}.pt (or .safetensors), where every command finds it; ANOMALIB_ZSAD_HOME names another folder\n"
        "  anywhere, if you name it: --model.pretrained FILE for anomalib, --pretrained FILE for detect, or "
        "pretrained=FILE in Python\n"
        "On a machine with network this command fetches it:\n"
        f"  anomalib-zsad weights fetch {plain_name(backbone)} {pretrained}"
    )
