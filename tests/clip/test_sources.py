# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Where weights are looked for. Servers are real ones on this machine; nothing leaves it."""

import http.server
import socket
import threading
import time
import urllib.error

import pytest

from anomalib_zsad.clip import sources
from anomalib_zsad.clip.sources import Tag, WeightsNotFoundError, fetch_weights, find_weights, home


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("ANOMALIB_ZSAD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.fixture
def server():
    """Answers ``/<status>/...`` with that status and the body ``weights``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(int(self.path.split("/")[1]))
            self.send_header("Content-Length", "7")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(b"weights")

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def mute():
    """Accepts connections and never answers, like a firewall that drops packets."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_home_is_looked_at_first(suffix):
    path = home() / f"ViT-L-14-336-openai{suffix}"
    path.parent.mkdir()
    path.touch()
    assert find_weights("ViT-L-14-336", "openai", download=False) == path
    assert find_weights("ViT-L-14-336-quickgelu", "openai", download=False) == path
    assert fetch_weights("ViT-L-14-336", "openai") == path


def test_default_home(monkeypatch, tmp_path):
    monkeypatch.delenv("ANOMALIB_ZSAD_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert home() == tmp_path / "user" / ".cache" / "anomalib_zsad"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert home() == tmp_path / "xdg" / "anomalib_zsad"


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(WeightsNotFoundError, match=r"There is no weights file .*gone\.pt\."):
        find_weights("ViT-B-16", str(tmp_path / "gone.pt"))
    with pytest.raises(WeightsNotFoundError, match="it is a folder"):
        find_weights("ViT-B-16", str(tmp_path))
    with pytest.raises(ValueError, match=r"x\.pt is a file already; fetched are tags: openai, "):
        fetch_weights("ViT-B-16", "x.pt")


def test_a_server_that_answers_is_in_reach(server):
    for status in (200, 403, 404, 405):
        sources._probe(f"{server}/{status}/")
    with pytest.raises(urllib.error.HTTPError):
        sources._probe(f"{server}/503/")


def test_a_server_that_does_not_answer_is_given_up_soon(mute, monkeypatch):
    assert sources.PROBE_SECONDS <= 5
    monkeypatch.setattr(sources, "PROBE_SECONDS", 0.2)
    start = time.monotonic()
    with pytest.raises(OSError, match="timed out"):
        sources._download(Tag("gelu", f"{mute}/x.pt", ""), allowed=True)
    assert time.monotonic() - start < 5


def test_download_by_address_and_the_cache_it_leaves(server, tmp_path):
    tag = Tag("gelu", f"{server}/200/clip.pt", "")
    assert sources._in_caches(tag) is None
    path = sources._download(tag, allowed=True)
    assert path.read_bytes() == b"weights"
    assert path == tmp_path / "user" / ".cache" / "clip" / "clip.pt" == sources._in_caches(tag)


def test_a_broken_download_is_not_taken_from_the_cache(tmp_path):
    digest = "9a129038"  # of b"weights", its beginning; see the assertion below
    cache = tmp_path / "user" / ".cache" / "clip"
    cache.mkdir(parents=True)
    for name in (f"clip-{digest}.pt", "clip-00000000.pt"):
        (cache / name).write_bytes(b"weights")
    found = sources._in_caches(Tag("gelu", f"https://host/v0.2-weights/clip-{digest}.pt", ""))
    assert sources.sha256_of_file(cache / f"clip-{digest}.pt").startswith(digest)
    assert found == cache / f"clip-{digest}.pt"
    assert sources._in_caches(Tag("gelu", "https://host/v0.2-weights/clip-00000000.pt", "")) is None


def test_offline_by_the_hub_s_own_variable(server, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConnectionError, match="switched off by HF_HUB_OFFLINE"):
        sources._download(Tag("gelu", f"{server}/200/clip.pt", ""), allowed=True)
