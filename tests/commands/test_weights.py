# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F811 - fixtures

"""``anomalib-zsad weights``, with folders of its own; nothing leaves this machine."""

import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading
import time

import pytest
import torch

import anomalib_zsad
from anomalib_zsad.adapters import Adapter
from anomalib_zsad.cli import main
from anomalib_zsad.clip.random_weights import weight_shapes
from anomalib_zsad.clip.weights import clip_config
from tests.models.bayes_pfl.test_convert import model, released  # noqa: F401
from tests.models.cops.test_convert import checkpoint


@pytest.fixture
def run(tmp_path):
    def command(*arguments, **variables):
        environment = {name: value for name, value in os.environ.items() if not re.match(r"(?i)hf_|.*_proxy$", name)}
        environment |= {
            "HOME": str(tmp_path),
            "HF_HOME": str(tmp_path / "hub"),
            "ANOMALIB_ZSAD_HOME": str(tmp_path / "w"),
        }
        return subprocess.run(
            [sys.executable, "-m", "anomalib_zsad.cli", "weights", *arguments],
            env=environment | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return command


@pytest.mark.parametrize(
    "variables",
    [
        {"HF_HUB_OFFLINE": "1"},
        {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"},
    ],
    ids=["switched off", "no route"],
)
def test_missing_weights_offline(variables, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    variables |= {"HOME": str(tmp_path), "ANOMALIB_ZSAD_HOME": str(tmp_path / "w")}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    start = time.monotonic()
    assert main(["weights", "fetch", "ViT-L-14-336"]) == 1
    assert time.monotonic() - start < 20  # nearly all of it the import of open_clip; the hub's client retries for 45 s
    message = capsys.readouterr().err
    for part in (
        "'openai' of ViT-L-14-336 are not on this machine",
        "ViT-L-14-336px.pt",
        "--model.pretrained FILE",
        f"{tmp_path / 'w' / 'ViT-L-14-336-openai'}.pt (or .safetensors)",
        "anomalib-zsad weights fetch ViT-L-14-336 openai",
    ):
        assert part in message


def test_fetch_from_a_hub_and_use_offline(run, tmp_path):
    """A hub that has only the ``.bin``: the file lands where every command finds it, and then needs no network."""
    stored = tmp_path / "stored.bin"
    config = clip_config("ViT-B-32")
    torch.save({name: torch.zeros(()).expand(shape) for name, shape in weight_shapes(config).items()}, stored)
    content = stored.read_bytes()

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path.endswith("/open_clip_pytorch_model.bin")
            self.send_response(200 if found else 404)
            self.send_header("ETag", '"1"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(content) if found else 0))
            self.end_headers()
            if found and self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{hub.server_port}"
        result = run("fetch", "ViT-B-32", "laion2b_s34b_b79k", HF_ENDPOINT=address, HF_HUB_DISABLE_XET="1")
        hub.shutdown()
    assert result.returncode == 0, result.stderr
    path = tmp_path / "w" / "ViT-B-32-laion2b_s34b_b79k.pt"
    assert str(path) in result.stdout
    assert "activation gelu" in result.stdout
    assert hashlib.sha256(path.read_bytes()).hexdigest() in result.stdout
    assert path.read_bytes() == content

    path.unlink()  # the hub's cache alone is enough
    result = run("info", "ViT-B-32", "laion2b_s34b_b79k", HF_HUB_OFFLINE="1")
    assert result.returncode == 0, result.stderr
    assert str(tmp_path / "hub") in result.stdout


def test_info(capsys, tmp_path):
    assert main(["weights", "info", "ViT-L-14-336"]) == 0
    assert re.search(
        r"image_size=336.*\n.*context_length=77.*\nembed_dim  768\ntags       openai\n$", capsys.readouterr().out
    )
    assert main(["weights", "info", "tiny-random", "random:5"]) == 0
    out = capsys.readouterr().out
    assert "tags       none" in out
    assert re.search(r"activation gelu\nsha256     [0-9a-f]{64}\n", out)
    assert main(["weights", "info", "tiny-random", str(tmp_path / "no.pt")]) == 1
    assert "There is no weights file" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["BayesPFL", "CoPS"])
def test_convert_a_released_checkpoint(method, capsys, tmp_path, released):
    content = {"MyModel": released} if method == "BayesPFL" else checkpoint()
    source, adapter = tmp_path / "released.pth", tmp_path / "adapter.safetensors"
    torch.save(content, source)
    assert main(["weights", "convert", "--method", method, str(source), str(adapter)]) == 0
    assert capsys.readouterr().out == f"adapter    {adapter}\n"
    found = Adapter.load(adapter, method)
    wanted = getattr(anomalib_zsad, method).convert(source)
    assert found.origin == wanted.origin == {"released_checkpoint": "released.pth"}
    assert found.tensors.keys() == wanted.tensors.keys()
    for name, value in wanted.tensors.items():  # not a number: what the released files leave out
        torch.testing.assert_close(found.tensors[name], value, rtol=0, atol=0, equal_nan=True)

    other = "CoPS" if method == "BayesPFL" else "BayesPFL"
    assert main(["weights", "convert", "--method", other, str(source), str(tmp_path / "b.safetensors")]) == 1
    assert main(["weights", "convert", "--method", method, str(source), str(tmp_path / "adapter.pth")]) == 1
    assert "an adapter is a .safetensors file, not adapter.pth" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter.safetensors", "released.pth"]


def test_usage_errors(capsys):
    assert main(["weights", "info", "RN50"]) == 1
    assert "'RN50' is not supported" in capsys.readouterr().err
    for wrong in ([], ["weights"], ["weights", "burn"]):
        with pytest.raises(SystemExit) as stop:
            main(wrong)
        assert stop.value.code == 2


def test_starts_without_heavy_imports():
    code = "import sys, anomalib_zsad.cli; sys.exit(not {'torch', 'open_clip', 'anomalib'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
