# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""A graph that OpenVINO runs and whose outputs can be told by looking at the image, photographs, and a browser."""

import json
import os
import shutil
import subprocess
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops
from PIL import Image

FACTS = {
    "format": 1,
    "method": "DAPO",
    "class_name": None,
    "image_size": 16,
    "thresholds": {"image": 0.5, "pixel": 0.5},
    "calibrated": True,
    "defect_types": ["red", "green", "blue"],
}


def save_graph(
    path: Path, facts: dict | None, shape: list = (-1, 3, -1, -1), kinds: int = 3, leave_out: Collection[str] = ()
) -> Path:
    """The map is the brightest channel at 16 x 16, the score its highest value.

    The last three kinds of defect are the channels; the others are nowhere.
    """
    image = ops.parameter(list(shape), np.float32, name="input")
    small = ops.interpolate(image, [16, 16], "linear", "sizes", axes=[2, 3], antialias=False)
    heat = ops.reduce_max(small, [1], keep_dims=True)
    maps = ops.pad(small, [0, kinds - 3, 0, 0], [0, 0, 0, 0], "constant", np.float32(0))
    outputs = {
        "pred_score": ops.reduce_max(heat, [1, 2, 3]),
        "anomaly_map": heat,
        "type_maps": maps,
        "type_scores": ops.reduce_max(maps, [2, 3]),
        "uncertainty_map": ops.multiply(heat, np.float32(0.5)),
    }
    outputs = {name: node for name, node in outputs.items() if name not in leave_out}
    for name, node in outputs.items():
        node.output(0).set_names({name})
    image.output(0).set_names({"input"})
    model = ov.Model([ops.result(node) for node in outputs.values()], [image])
    if facts is not None:
        model.set_rt_info(json.dumps(facts), ["framework", "anomalib_zsad"])
    ov.save_model(model, path, compress_to_fp16=False)
    return path


@pytest.fixture(scope="session")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_graph(tmp_path_factory.mktemp("graph") / "model.xml", FACTS)


def paint(
    size: tuple[int, int], boxes: dict[tuple[int, int, int, int], tuple[int, int, int]] | None = None
) -> Image.Image:
    image = Image.new("RGB", size, (40, 40, 40))
    for box, colour in (boxes or {}).items():
        image.paste(colour, box)
    return image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six images, one of them in a folder, and two that are none."""
    folder = tmp_path / "photos"
    (folder / "line 2").mkdir(parents=True)
    paint((320, 160), {(40, 20, 120, 60): (250, 0, 0)}).save(folder / "a.png")
    paint((320, 160), {(200, 100, 300, 140): (0, 0, 220), (10, 10, 60, 40): (0, 0, 200)}).save(
        folder / "a.jpg", quality=95
    )
    paint((64, 64)).save(folder / "good.bmp")
    paint((64, 96)).save(folder / "line 2" / "GOOD.JPG")
    paint((100, 100), {(0, 0, 100, 50): (0, 150, 0)}).save(folder / "line 2" / "half.tif")
    paint((48, 48), {(0, 0, 8, 8): (115, 0, 0)}).save(folder / "<b>&'\".png")
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("not a photograph")
    (folder / "notes.txt").write_text("not looked at")
    return folder


class Browser:
    """Headless Chromium over its debugging pipe."""

    def __init__(self, program: str, profile: Path) -> None:
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        flags = f"--headless --no-sandbox --disable-gpu --user-data-dir={profile} --window-size=1400,1000 about:blank"
        command = f"exec {program} {flags} --remote-debugging-pipe 3<&{theirs_in} 4>&{theirs_out}"
        self._process = subprocess.Popen(
            ["bash", "-c", command],
            pass_fds=(theirs_in, theirs_out),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        os.close(theirs_in), os.close(theirs_out)
        self._rest, self._number, self.events, self._session = b"", 0, [], None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def _message(self) -> dict:
        while b"\0" not in self._rest:
            block = os.read(self._from, 2**20)
            assert block, "the browser has ended"
            self._rest += block
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def ask(self, method: str, **parameters: Any) -> dict:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._message()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, address: str) -> None:
        self.events.clear()
        self.ask("Page.navigate", url="about:blank")
        self.ask("Page.navigate", url=address)
        assert self.run(
            "new Promise(go => document.readyState === 'complete' ? go(1) : addEventListener('load', () => go(1)))"
        )

    def run(self, script: str) -> Any:
        result = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def close(self) -> None:
        self.ask("Browser.close") if self._process.poll() is None else None
        self._process.wait(30)
        os.close(self._to), os.close(self._from)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    running = Browser(program, tmp_path_factory.mktemp("browser"))
    yield running
    running.close()
