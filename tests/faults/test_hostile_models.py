# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Model files that are damaged, mistaken or meant to harm: the file is named, nothing is run, no memory is taken."""

import copy
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
import torch
from openvino import opset13 as ops
from safetensors import safe_open
from safetensors.torch import save

from anomalib_zsad import Detector
from anomalib_zsad.adapters import HEADER, AdapterError, read_checkpoint
from anomalib_zsad.cli import main
from anomalib_zsad.clip.archive import ArchiveError, read_archive
from anomalib_zsad.deploy.engines import openvino_core
from anomalib_zsad.models.bayes_pfl import BayesPFL
from anomalib_zsad.models.cops import CoPS
from anomalib_zsad.models.promptmoe import PromptMoE
from tests.deploy.conftest import FACTS, save_graph

IMAGE = np.full((20, 30, 3), 200, np.uint8)


@contextmanager
def little_memory(megabytes: int = 300) -> Generator[None]:
    """What runs inside must not take more memory than this."""
    resource = pytest.importorskip("resource")  # not on Windows
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield  # noqa: RUF075 - who fails has failed
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < megabytes * 1024


class Bomb:
    """Unpickling this leaves a mark."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return open, (str(self.marker), "w")


# ---- adapters --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = PromptMoE(backbone="tiny-random", image_size=56, seed=0)
    return model.save_adapter(tmp_path_factory.mktemp("adapter") / "promptmoe.safetensors")


def parts_of(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()[HEADER]), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def put(*keys: str, value: Any) -> Callable[[dict], None]:
    """Change the header at a place."""

    def change(facts: dict) -> None:
        for key in keys[:-1]:
            facts = facts[key]
        facts[keys[-1]] = value

    return change


HEADERS = {
    "method of another": (put("method", value="DAPO"), "is an adapter of DAPO, not of PromptMoE"),
    "method is a list": (put("method", value=["PromptMoE"]), "values that no training writes: method"),
    "no method": (lambda facts: facts.pop("method"), "not that of an adapter"),
    "no format": (lambda facts: facts.pop("format"), "not that of an adapter"),
    "format of the future": (put("format", value=99), "reads up to 1. Update anomalib-zsad"),
    "format is text": (put("format", value="1"), "no training writes: format"),
    "config is a list": (put("config", value=[1]), "no training writes: config"),
    "config is null": (put("config", value=None), "no training writes: config"),
    "config of the future": (put("config", "num_wizards", value=3), "num_wizards"),
    "config out of range": (put("config", "num_experts", value=0), "num_experts=0"),
    "a billion experts": (put("config", "num_experts", value=10**9), "no training writes: config.num_experts"),
    "a huge image": (put("config", "image_size", value=14 * 10**6), "no training writes: config.image_size"),
    "an image of odd size": (put("config", "image_size", value=57), "image_size=57 is not a multiple"),
    "temperature nan": (put("config", "temperature", value=float("nan")), "no training writes: config.temperature"),
    "a word of a megabyte": (put("config", "class_name", value="x" * 10**5), "no training writes: config.class_name"),
    "lists in lists": (put("config", "layers", value=[[[]]]), "no training writes: config.layers"),
    "a hundred thousand layers": (put("config", "layers", value=[1] * 10**5), "no training writes: config.layers"),
    "layers that do not exist": (put("config", "layers", value=[2, 99]), "expected ascending numbers out of 1..8"),
    "another backbone": (put("config", "backbone", value="tiny-rando"), "Unknown backbone 'tiny-rando'"),
    "a backbone of another size": (put("config", "backbone", value="surfaces-tiny"), "do not fit the model"),
    "calibration falls": (put("calibration", value={"image_knots": [0.9, 0.5, 0.1]}), "rising between 0 and 1"),
    "calibration is text": (put("calibration", value={"image_knots": "abc"}), "no training writes: calibration.image"),
    "calibration nan": (put("calibration", value={"image_knots": [float("nan")] * 3}), "no training writes"),
    "calibration of others": (put("calibration", value={"x": [1]}), "Calibration has 'x'"),
    "clip is a list": (put("clip", value=[]), "no training writes: clip"),
    "clip without checksum": (put("clip", value={"name": "x"}), "no training writes: clip.sha256"),
    "clip of numbers": (put("clip", value={"name": 1, "sha256": 2}), "no training writes: clip.name"),
    "of another clip": (put("clip", value={"name": "x", "sha256": "0" * 64}), "trained on the CLIP x"),
    "two megabytes": (put("origin", "note", value="x" * 2**21), "not that of an adapter"),
}

WITHOUT_NAME = {"a backbone of another size", "of another clip"}  # known only when the model is built


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_of_adapters(kind: str, adapter: Path, tmp_path: Path) -> None:
    change, reason = HEADERS[kind]
    facts, tensors = parts_of(adapter)
    change(facts)
    path = tmp_path / "bad.safetensors"
    path.write_bytes(save(tensors, metadata={HEADER: json.dumps(facts)}))
    with little_memory(), pytest.raises(ValueError, match=reason) as error:
        PromptMoE(weights=path).configure_model()
    assert isinstance(error.value, AdapterError)
    assert "bad.safetensors" in str(error.value) or kind in WITHOUT_NAME


TEXTS = {
    "no json": "{",
    "null": "null",
    "a list": "[]",
    "a number": "1e999",
    "a key twice": '{"format": 1, "format": []}',
    "a tower of lists": "[" * 10**5,
    "nothing": "",
}


@pytest.mark.parametrize("kind", TEXTS)
def test_headers_of_adapters_that_are_no_json_of_ours(kind: str, adapter: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(save(parts_of(adapter)[1], metadata={HEADER: TEXTS[kind]}))
    for use in (PromptMoE.load_adapter, Detector):
        with pytest.raises(AdapterError, match=r"The header of .*bad\.safetensors .*Copy it again"):
            use(path)


def tensors_changed(change: Callable[[dict], None]) -> Callable[[bytes, Path], bytes]:
    def make(_content: bytes, adapter: Path) -> bytes:
        facts, tensors = parts_of(adapter)
        change(tensors)
        return save(tensors, metadata={HEADER: json.dumps(facts)})

    return make


def header_changed(change: Callable[[dict], None]) -> Callable[[bytes, Path], bytes]:
    def make(content: bytes, _adapter: Path) -> bytes:
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + length :]

    return make


FILES: dict[str, tuple[Callable[[bytes, Path], bytes], str]] = {
    "empty": (lambda content, _: b"", "damaged"),
    "truncated header": (lambda content, _: content[:100], "damaged"),
    "truncated tensors": (lambda content, _: content[:-100], "damaged"),
    "header of 2**62 bytes": (lambda content, _: struct.pack("<Q", 2**62) + content[8:], "damaged"),
    "header of 90 MB": (lambda content, _: struct.pack("<Q", 90 * 10**6) + content[8:], "damaged"),
    "more behind the end": (lambda content, _: content + b"x" * 50, "damaged"),
    "a pickle": (lambda content, _: pickle.dumps([1]), "damaged"),
    "negative sizes": (header_changed(put("context", "shape", value=[-8, -64])), "damaged"),
    "offsets turned round": (header_changed(put("context", "data_offsets", value=[2048, 0])), "damaged"),
    "shape of 2**62": (header_changed(put("context", "shape", value=[2**62, 4])), "damaged"),
    "type of no name": (header_changed(put("context", "dtype", value="F33")), "damaged"),
    "nan": (tensors_changed(lambda t: t["context"].fill_(torch.nan)), "NaN or infinite values in context"),
    "inf": (tensors_changed(lambda t: t["context"].view(-1)[3:4].fill_(torch.inf)), "NaN or infinite values"),
    "wrong shape": (tensors_changed(lambda t: t.update(context=torch.zeros(3, 64))), r"context \(3, 64\) instead of"),
    "wrong type": (tensors_changed(lambda t: t.update(context=t["context"].long())), "int64 instead of torch.float32"),
    "one missing": (tensors_changed(lambda t: t.pop("context")), "missing: context"),
    "one more": (tensors_changed(lambda t: t.update(more=torch.zeros(1))), "not known: more"),
    "none": (tensors_changed(lambda t: t.clear()), "missing"),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_of_adapters(kind: str, adapter: Path, tmp_path: Path) -> None:
    make, reason = FILES[kind]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(make(adapter.read_bytes(), adapter))
    with little_memory(), pytest.raises(AdapterError, match=reason):
        PromptMoE(weights=path)


def test_the_adapter_itself_works(adapter: Path) -> None:
    """Otherwise the tests above would prove nothing."""
    assert 0 <= Detector(adapter)(IMAGE).score <= 1


# ---- checkpoints -----------------------------------------------------------------------------------------------------

CHECKPOINTS: dict[str, tuple[Any, str]] = {
    "a list": ([1, 2], "holds a list"),
    "a tensor": (torch.zeros(3), "holds a Tensor"),
    "nothing of ours": ({"state_dict": {}}, "made by another program"),
    "facts are text": ({"anomalib_zsad": "x"}, "no training writes: anomalib_zsad"),
    "method is a list": ({"anomalib_zsad": {"method": []}}, "no training writes: method"),
    "method of no name": ({"anomalib_zsad": {"method": "os"}}, "was made by os; known are"),
    "tensors are numbers": ({"anomalib_zsad": {"method": "DAPO"}, "state_dict": {"x": 1}}, "no training writes: x"),
    "a billion prompts": (
        {"anomalib_zsad": {"method": "DAPO"}, "hyper_parameters": {"num_prompts": 10**9}, "state_dict": {}},
        "no training writes: hyper_parameters.num_prompts",
    ),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_checkpoints(kind: str, tmp_path: Path) -> None:
    content, reason = CHECKPOINTS[kind]
    torch.save(content, tmp_path / "bad.ckpt")
    with little_memory(), pytest.raises(ValueError, match=reason) as error:
        Detector(tmp_path / "bad.ckpt")
    assert "bad.ckpt" in str(error.value)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("use", [read_checkpoint, Detector, BayesPFL.convert, CoPS.convert, read_archive])
def test_code_in_a_checkpoint_is_not_run(use: Callable, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / ("bad.ckpt" if use is Detector else "bad.pth")
    marker = tmp_path / "marker"
    torch.save({"state_dict": Bomb(marker)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"bad\."):
        use(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Bomb(marker)))
    assert marker.exists()  # otherwise this would prove nothing


@pytest.mark.parametrize(
    "content",
    [
        {"MyModel": 3}, {"MyModel": {}}, {"MyModel": {"prompt_context": 3}},
        {"prompt_learner": [1]}, {"prompt_learner": {}}, {"prompt_learner": {"t_n": "x"}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", [BayesPFL, CoPS])
def test_released_checkpoints_that_are_none(method: type, content: dict, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match=r".{20}"):
        method.convert(tmp_path / "bad.pth")


@pytest.fixture(scope="module", params=["deflated tensor", "deflated pickle", "members upon each other"])
def bomb(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a few kB that unfolds to 70 MB, by what one may multiply at will."""
    path, file = tmp_path_factory.mktemp("bomb") / "bomb.ckpt", io.BytesIO()
    torch.save({"state_dict": {"x": torch.zeros(8)}}, file)
    swollen = {"deflated tensor": "data/0", "deflated pickle": "data.pkl"}.get(request.param, "nothing")
    with zipfile.ZipFile(file) as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in plain.infolist():
            archive.writestr(entry.filename, plain.read(entry) + bytes(7 * 10**7) * entry.filename.endswith(swollen))
        if swollen == "nothing":
            archive.writestr("archive/data/1", bytes(10**6))
            member = archive.infolist()[-1]
            for number in range(70):
                again = copy.copy(member)
                again.filename = f"archive/data/{number + 2}"
                archive.filelist.append(again)
    return path


@pytest.mark.parametrize("use", [read_checkpoint, Detector, read_archive])
def test_archives_that_unfold_are_refused(use: Callable, bomb: Path) -> None:
    assert bomb.stat().st_size < 10**5
    with little_memory(50), pytest.raises(ValueError, match=r"bomb\.ckpt would unfold to 7\d{7} bytes"):
        use(bomb)


def test_a_few_bytes_that_stand_for_a_terabyte(tmp_path: Path) -> None:
    path = tmp_path / "clip.pt"
    torch.save({"visual.proj": torch.zeros(1).expand(2**20, 2**18)}, path)
    with little_memory():
        tensors = read_archive(path).tensors
    assert tensors["visual.proj"].untyped_storage().nbytes() == 4


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_that_are_no_numbers(value: float, suffix: str, tmp_path: Path) -> None:
    tensors = {"visual.proj": torch.tensor([1.0, value])}
    path = tmp_path / f"clip.{suffix}"
    path.write_bytes(save(tensors)) if suffix == "safetensors" else torch.save(tensors, path)
    with pytest.raises(ArchiveError, match=r"clip\.\w+ has NaN or infinite values in visual\.proj"):
        read_archive(path)


@pytest.mark.parametrize("tensor", [torch.zeros(4, device="meta"), torch.eye(3).to_sparse()])
def test_weights_that_are_no_plain_tensors(tensor: torch.Tensor, tmp_path: Path) -> None:
    torch.save({"visual.proj": tensor}, tmp_path / "clip.pt")
    with pytest.raises(ArchiveError, match=r"clip\.pt"):
        read_archive(tmp_path / "clip.pt")


# ---- exported graphs -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_graph(tmp_path_factory.mktemp("graph") / "model.xml", FACTS)


BELIEVED = {
    "a list": ([], "expected an object"),
    "text": ("x", "expected an object"),
    "thresholds are a number": ({"thresholds": 3}, "thresholds is no object"),
    "threshold is text": ({"thresholds": {"image": "a"}}, r"the threshold 'image' is not in \[0, 1\]"),
    "threshold nan": ({"thresholds": {"pixel": float("nan")}}, "the threshold 'pixel'"),
    "threshold inf": ({"thresholds": {"image": float("inf")}}, "the threshold 'image'"),
    "threshold 7": ({"thresholds": {"image": 7}}, "the threshold 'image'"),
    "types are a number": ({"defect_types": 5}, "no list of at most 1000 words"),
    "types of numbers": ({"defect_types": [1, 2, 3]}, "no list of at most 1000 words"),
    "types too few": ({"defect_types": ["a"]}, "1 defect_types for type_scores"),
    "types too many": ({"defect_types": ["a"] * 100_000}, "no list of at most 1000 words"),
    "format of the future": ({"format": 99}, "reads up to 1. Update"),
    "two megabytes": ({"note": "x" * 2**21}, "at most 1048576 characters"),
}


@pytest.mark.parametrize("kind", BELIEVED)
def test_facts_of_a_graph_that_cannot_be_true(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    facts, reason = BELIEVED[kind]
    path = save_graph(tmp_path / "bad.xml", facts)
    with pytest.raises(ValueError, match=reason) as error:
        Detector(path)
    assert "bad.xml" in str(error.value)
    (tmp_path / "x.png").touch()
    assert main(["detect", str(tmp_path / "x.png"), "--model", str(path)]) == 1
    assert capsys.readouterr().err.startswith("anomalib-zsad: ")


def test_facts_of_a_graph_that_are_no_json(graph: Path, tmp_path: Path) -> None:
    for number, text in enumerate(("{", "", "[" * 10**5)):
        model = openvino_core().read_model(graph)
        model.set_rt_info(text, ["framework", "anomalib_zsad"])
        path = tmp_path / f"{number}.xml"
        ov.save_model(model, path)
        with pytest.raises(ValueError, match=rf"What .*{number}\.xml says of itself is damaged"):
            Detector(path)


def test_weights_that_are_not_beside_a_graph(graph: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_bytes(graph.read_bytes())
    with pytest.raises(FileNotFoundError, match=r"model\.xml has its weights in model\.bin, which must lie beside it"):
        Detector(path)


@pytest.mark.parametrize("weights", [b"", "half"])
def test_weights_beside_a_graph(weights: bytes | str, graph: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_bytes(graph.read_bytes())
    content = graph.with_suffix(".bin").read_bytes()
    path.with_suffix(".bin").write_bytes(content[: len(content) // 2] if weights == "half" else weights)
    with pytest.raises(ValueError, match=r"model\.xml is damaged.*(bin file)"):
        Detector(path)


def test_a_graph_cut_anywhere(graph: Path, tmp_path: Path) -> None:
    content, path = graph.read_bytes(), tmp_path / "model.xml"
    path.with_suffix(".bin").write_bytes(graph.with_suffix(".bin").read_bytes())
    for share in range(1, 20):
        path.write_bytes(content[: len(content) * share // 20])
        with pytest.raises(ValueError, match=r"model\.xml is damaged"):
            Detector(path)


@pytest.mark.parametrize("kind", ["external", "laughs"])
def test_entities_of_a_graph_stay_text(kind: str, graph: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0.123456")
    laughs = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(10))
    entities = {"external": f'<!ENTITY a10 SYSTEM "{secret.as_uri()}">', "laughs": f'<!ENTITY a0 "ha">{laughs}'}[kind]
    text = graph.read_text().replace('<?xml version="1.0"?>', f'<?xml version="1.0"?><!DOCTYPE net [{entities}]>')
    path = tmp_path / "model.xml"
    path.write_text(text.replace("DAPO", "&a10;"))
    path.with_suffix(".bin").write_bytes(graph.with_suffix(".bin").read_bytes())
    with little_memory():
        assert Detector(path).facts["method"] == "&a10;"


@pytest.mark.parametrize(("name", "channels"), [("something", 3), ("pred_score", 1)])
def test_graphs_of_something_else(name: str, channels: int, tmp_path: Path) -> None:
    image = ops.parameter([-1, channels, -1, -1], np.float32, name="input")
    out = ops.reduce_max(image, [1, 2, 3])
    out.output(0).set_names({name})
    ov.save_model(ov.Model([ops.result(out)], [image]), tmp_path / "model.xml")
    with pytest.raises(ValueError, match=r"model\.xml is no model of anomalib: expected one input"):
        Detector(tmp_path / "model.xml")


@pytest.mark.parametrize("content", [b"", b"\x08\x07" * 100, b"<net/>", b"PK\x03\x04", pickle.dumps([1])])
@pytest.mark.parametrize("suffix", ["xml", "onnx"])
def test_graphs_that_are_none(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"model\.{suffix} is damaged, or not a model that OpenVINO reads"):
        Detector(path)
