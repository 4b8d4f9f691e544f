# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Weights from every kind of file, and every way in which they can be wrong."""

import hashlib
import io
import json
import os
import pickle
import warnings
import zipfile
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from anomalib_zsad.clip.archive import ArchiveError, read_archive, sha256_of_file
from anomalib_zsad.clip.config import ClipConfig, TextConfig, VisionConfig
from anomalib_zsad.clip.random_weights import weight_shapes
from anomalib_zsad.clip.sources import find_weights, pretrained_tags
from anomalib_zsad.clip.weights import OWN, clip_config, load_clip, read_weights

TINY = OWN["tiny-random"]


@pytest.fixture(scope="module")
def tiny():
    return read_weights("tiny-random").state_dict


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], tensor), name


def hollow(config):
    """A state dict of any size that takes no room on disk."""
    return {name: torch.zeros(()).expand(shape) for name, shape in weight_shapes(config).items()}


class Holder(nn.Module):
    """A tree of modules with given tensors, the way a published model looks to TorchScript."""

    def __init__(self, tensors):
        super().__init__()
        children = {}
        for name, tensor in tensors.items():
            head, _, rest = name.partition(".")
            if rest:
                children.setdefault(head, {})[rest] = tensor
            else:
                self.register_buffer(head, tensor)
        for name, inner in children.items():
            self.add_module(name, Holder(inner))

    def forward(self, x):
        return x


def save_jit(tensors, path, **marks):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.trace(Holder(tensors | marks), torch.ones(1)).save(str(path))


OPENAI_MARKS = {
    "input_resolution": torch.tensor(224),
    "context_length": torch.tensor(77),
    "vocab_size": torch.tensor(49408),
}


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "vision", "text", "joint"),
    [
        ("ViT-B-16", (224, 16, 768, 12, 12), (77, 49408, 512, 12, 8), 512),
        ("ViT-L-14-336", (336, 14, 1024, 24, 16), (77, 49408, 768, 12, 12), 768),
        ("ViT-H-14", (224, 14, 1280, 32, 16), (77, 49408, 1024, 24, 16), 1024),
        ("ViT-B-16-plus-240", (240, 16, 896, 12, 14), (77, 49408, 640, 12, 10), 640),
    ],
)
def test_published_sizes(backbone, vision, text, joint):
    expected = ClipConfig(VisionConfig(*vision), TextConfig(*text), joint)
    assert clip_config(backbone) == expected
    assert clip_config(f"{backbone}-quickgelu") == expected


@pytest.mark.parametrize(
    ("backbone", "reason"),
    [
        ("RN50", "layers="),
        ("ViT-B-16-SigLIP", "timm_model_name='vit_base_patch16_siglip_224'"),
        ("convnext_base", "timm_model_name"),
        ("roberta-ViT-B-32", "hf_model_name='roberta-base'"),
        ("coca_ViT-B-32", "multimodal_cfg"),
        ("ViT-H-14-CLIPA", "no_ln_pre=True, pool_type='avg'"),
        ("ViT-M-16-alt", "ls_init_value=0.0001"),
    ],
)
def test_other_architectures_are_refused_by_name(backbone, reason):
    with pytest.raises(ValueError, match="not supported because of") as error:
        clip_config(backbone)
    assert backbone in str(error.value)
    assert reason in str(error.value)
    assert "ViT-L-14-336" in str(error.value)


@pytest.mark.parametrize("backbone", ["vit", "ViT-L-14@336px", "hf-hub:owner/model", ""])
def test_unknown_backbone(backbone):
    with pytest.raises(ValueError, match=r"Unknown backbone .*ViT-B-16"):
        clip_config(backbone)


# --- random weights ---------------------------------------------------------------------------------------------------


def test_random_weights_are_the_same_everywhere():
    weights = read_weights("tiny-random")
    assert weights.sha256 == "a9534f651de8cf7275729884168829c1f367f7184520bdbaa669c7efd6dcf5ad"
    assert (weights.pretrained, weights.activation, weights.config) == ("random", "gelu", TINY)
    assert read_weights("tiny-random", "random:0").sha256 == weights.sha256
    assert read_weights("tiny-random", "random:1").sha256 != weights.sha256


def test_random_weights_leave_the_global_state_alone():
    before = torch.random.get_rng_state()
    read_weights("tiny-random")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_random_weights_have_openai_moments():
    state = read_weights("ViT-S-32-alt", "random").state_dict
    width, layers = 256, 10
    expected = {
        "token_embedding.weight": 0.02,
        "transformer.resblocks.3.attn.in_proj_weight": width**-0.5,
        "transformer.resblocks.3.attn.out_proj.weight": width**-0.5 * (2 * layers) ** -0.5,
        "transformer.resblocks.3.mlp.c_fc.weight": (2 * width) ** -0.5,
        "transformer.resblocks.3.mlp.c_proj.weight": width**-0.5 * (2 * layers) ** -0.5,
        "text_projection": width**-0.5,
        "visual.proj": 384**-0.5,
    }
    for name, std in expected.items():
        assert state[name].std().item() == pytest.approx(std, rel=0.01), name
        assert abs(state[name].mean().item()) < 5 * std / state[name].numel() ** 0.5, name
    assert (state["ln_final.weight"] == 1).all()
    assert (state["visual.transformer.resblocks.0.attn.in_proj_bias"] == 0).all()


def test_tensors_do_not_repeat_each_other(tiny):
    rows = tiny["token_embedding.weight"]
    assert len(torch.unique(rows, dim=0)) == len(rows)
    blocks = [tiny[f"visual.transformer.resblocks.{i}.attn.in_proj_weight"] for i in range(8)]
    assert not any(torch.equal(blocks[0], other) for other in blocks[1:])


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "legacy", "module", "nested", "custom_text", "half", "safetensors", "jit"])
def test_every_layout_gives_the_same_weights(kind, tiny, tmp_path):
    path = tmp_path / ("clip.safetensors" if kind == "safetensors" else "clip.pt")
    expected = tiny
    match kind:
        case "plain":
            torch.save(tiny, path)
        case "legacy":
            torch.save(tiny, path, _use_new_zipfile_serialization=False)
        case "module":
            torch.save({f"module.{name}": tensor for name, tensor in tiny.items()}, path)
        case "nested":
            trainer = {"epoch": 3, "state_dict": {f"module.{name}": nn.Parameter(t) for name, t in tiny.items()}}
            torch.save(trainer, path)
        case "custom_text":
            prefixed = {
                name if name.startswith("visual.") or name == "logit_scale" else f"text.{name}": tensor
                for name, tensor in tiny.items()
            }
            torch.save(prefixed, path)
        case "half":
            torch.save({name: tensor.half() for name, tensor in tiny.items()}, path)
            expected = {name: tensor.half().float() for name, tensor in tiny.items()}
        case "safetensors":
            save_file(tiny, path)
        case "jit":
            save_jit(tiny, path)
    weights = read_weights("tiny-random", str(path), activation="gelu")
    assert_same(weights.state_dict, expected)
    assert weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not any(tensor.requires_grad for tensor in weights.state_dict.values())


def test_jit_archive_as_openai_publishes_it(tiny, tmp_path):
    """Half precision with float32 norms, three marks, and the causal mask as an attribute of every text block."""
    path = tmp_path / "tiny.pt"
    mixed = {name: tensor if "ln_" in name else tensor.half() for name, tensor in tiny.items()}
    masks = {f"transformer.resblocks.{i}.attn_mask": torch.zeros(77, 77) for i in range(4)}
    save_jit(mixed | masks, path, **OPENAI_MARKS)
    weights = read_weights("tiny-random", str(path))
    assert_same(weights.state_dict, {name: tensor.float() for name, tensor in mixed.items()})
    assert weights.activation == "quick_gelu"


def test_a_transposed_tensor_in_a_jit_archive(tmp_path):
    tensor = torch.arange(12.0).view(3, 4).T
    save_jit({"visual.proj": tensor, "part": torch.arange(10.0)[2:8:2]}, tmp_path / "x.pt")
    tensors = read_archive(tmp_path / "x.pt").tensors
    assert torch.equal(tensors["visual.proj"], tensor)
    assert torch.equal(tensors["part"], torch.tensor([2.0, 4.0, 6.0]))


def test_nothing_of_the_file_stays_in_use(tiny, tmp_path):
    path = tmp_path / "clip.pt"
    torch.save(tiny, path)
    weights = read_weights("tiny-random", str(path), activation="gelu")
    path.write_bytes(b"\0" * path.stat().st_size)
    assert_same(weights.state_dict, tiny)


def test_load_clip_from_a_file(tiny, tmp_path):
    path = tmp_path / "clip.safetensors"
    save_file(tiny, path, metadata={"activation": "gelu"})
    ours, same = load_clip("tiny-random", str(path), image_size=56), load_clip("tiny-random", image_size=56)
    images = torch.randn(2, 3, 56, 56)
    assert torch.equal(ours.encode_image(images), same.encode_image(images))
    assert ours.activation == "gelu"


def test_checksum_follows_the_file(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"one")
    assert sha256_of_file(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"three")
    assert sha256_of_file(path) == hashlib.sha256(b"three").hexdigest()


# --- activation -------------------------------------------------------------------------------------------------------


def test_an_unrecorded_activation_is_an_error(tiny, tmp_path):
    path = tmp_path / "clip.pt"
    torch.save(tiny, path)
    with pytest.raises(ValueError, match=r"Nothing in or beside .*clip.pt .*activation='gelu'.*or name the tag"):
        read_weights("tiny-random", str(path))
    for given in ("gelu", "quick_gelu"):
        assert read_weights("tiny-random", str(path), activation=given).activation == given
    assert read_weights("tiny-random-quickgelu", str(path)).activation == "quick_gelu"
    with pytest.raises(ValueError, match="none of 'recorded', 'gelu', 'quick_gelu'"):
        read_weights("tiny-random", str(path), activation="relu")


def test_openai_state_dict_is_quick_gelu(tiny, tmp_path):
    torch.save(tiny | OPENAI_MARKS, tmp_path / "clip.pt")
    assert read_weights("tiny-random", str(tmp_path / "clip.pt")).activation == "quick_gelu"
    assert read_weights("tiny-random", str(tmp_path / "clip.pt"), activation="gelu").activation == "gelu"


@pytest.mark.parametrize("recorded", ["gelu", "quick_gelu"])
def test_safetensors_header(recorded, tiny, tmp_path):
    path = tmp_path / "clip.safetensors"
    save_file(tiny, path, metadata={"activation": recorded})
    assert read_weights("tiny-random", str(path)).activation == recorded
    if recorded == "gelu":
        with pytest.raises(ValueError, match=r"tiny-random-quickgelu asks for QuickGELU, .* recorded .* GELU"):
            read_weights("tiny-random-quickgelu", str(path))


@pytest.mark.parametrize("quick", [False, True])
def test_open_clip_config_beside_the_file(quick, tiny, tmp_path):
    save_file(tiny, tmp_path / "open_clip_model.safetensors")
    vision = {"image_size": 224, "patch_size": 14, "width": 64, "layers": 8, "head_width": 32}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "layers": 4, "heads": 2}
    model = {"embed_dim": 64, "vision_cfg": vision, "text_cfg": text, **({"quick_gelu": True} if quick else {})}
    beside = tmp_path / "open_clip_config.json"
    beside.write_text(json.dumps({"model_cfg": model, "preprocess_cfg": {}}))
    read = lambda: read_weights("tiny-random", str(tmp_path / "open_clip_model.safetensors")).activation  # noqa: E731
    assert read() == ("quick_gelu" if quick else "gelu")
    model["vision_cfg"]["width"] = 128  # speaks of another model
    beside.write_text(json.dumps({"model_cfg": model}))
    with pytest.raises(ValueError, match="Nothing in or beside"):
        read()


@pytest.mark.parametrize(
    ("backbone", "tag", "activation"),
    [
        ("ViT-L-14-336", "openai", "quick_gelu"),
        ("ViT-L-14-336-quickgelu", "openai", "quick_gelu"),
        ("ViT-B-16", "dfn2b", "quick_gelu"),
        ("ViT-B-16", "metaclip_400m", "quick_gelu"),
        ("ViT-B-32", "laion400m_e32", "quick_gelu"),
        ("ViT-B-16", "laion400m_e32", "gelu"),
        ("ViT-B-32", "laion2b_s34b_b79k", "gelu"),
        ("ViT-B-16", "datacomp_xl_s13b_b90k", "gelu"),
        ("ViT-H-14", "laion2b_s32b_b79k", "gelu"),
        ("ViT-H-14", "dfn5b", "quick_gelu"),
    ],
)
def test_published_activations(backbone, tag, activation):
    assert pretrained_tags(backbone)[tag].activation == activation


def test_a_tag_found_at_home_has_the_activation_of_the_tag(tmp_path, monkeypatch):
    monkeypatch.setenv("ANOMALIB_ZSAD_HOME", str(tmp_path))
    torch.save(hollow(clip_config("ViT-B-32")), tmp_path / "ViT-B-32-laion400m_e31.pt")
    assert read_weights("ViT-B-32", "laion400m_e31").activation == "quick_gelu"
    assert find_weights("ViT-B-32-quickgelu", "laion400m_e31") == tmp_path / "ViT-B-32-laion400m_e31.pt"


# --- files that do not fit --------------------------------------------------------------------------------------------


def test_weights_of_another_backbone(tmp_path):
    torch.save(hollow(clip_config("ViT-S-32-alt")), tmp_path / "clip.pt")
    with pytest.raises(
        ValueError, match=r"width 384, 12 layers, patch 32.*ViT-S-16-alt has .*patch 16.*Use the"
    ) as error:
        read_weights("ViT-S-16-alt", str(tmp_path / "clip.pt"), activation="gelu")
    assert "Use the backbone ViT-S-32-alt." in str(error.value)


def test_weights_of_no_known_backbone(tmp_path):
    torch.save(hollow(replace(TINY, vision=replace(TINY.vision, layers=3))), tmp_path / "clip.pt")
    with pytest.raises(ValueError, match=r"3 layers.*tiny-random has .*8 layers.*No known backbone"):
        read_weights("tiny-random", str(tmp_path / "clip.pt"), activation="gelu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("visual.ln_pre.bias"), r"missing: visual\.ln_pre\.bias\."),
        (lambda t: t.update(logit_bias=torch.zeros(())), r"not part of the model: logit_bias\."),
        (
            lambda t: t.update({"visual.transformer.resblocks.2.mlp.c_fc.weight": torch.zeros(128, 64)}),
            r"of another shape: visual\..*resblocks\.2\.mlp\.c_fc\.weight \(128, 64\) instead of \(256, 64\)",
        ),
        (lambda t: [t.pop(name) for name in list(t) if "visual" in name], r"missing: visual\..* and \d+ more"),
        (lambda t: t.clear(), "missing: ln_final"),
    ],
)
def test_tensors_that_are_not_those_of_the_model(change, message, tiny, tmp_path):
    tensors = dict(tiny)
    change(tensors)
    torch.save(tensors, tmp_path / "clip.pt")
    with pytest.raises(ValueError, match=message):
        read_weights("tiny-random", str(tmp_path / "clip.pt"), activation="gelu")


def test_transformers_layout_is_recognised(tmp_path):
    save_file({"vision_model.embeddings.class_embedding": torch.zeros(4)}, tmp_path / "model.safetensors")
    with pytest.raises(ArchiveError, match="layout of Hugging Face transformers"):
        read_weights("ViT-B-16", str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("kind", ["state_dict.pt", "legacy.pt", "jit.pt", "clip.safetensors"])
@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.999])
def test_truncated_files(kind, keep, tiny, tmp_path):
    path = tmp_path / kind
    match kind:
        case "state_dict.pt":
            torch.save(tiny, path)
        case "legacy.pt":
            torch.save(tiny, path, _use_new_zipfile_serialization=False)
        case "jit.pt":
            save_jit(tiny, path)
        case "clip.safetensors":
            save_file(tiny, path)
    with path.open("r+b") as file:
        file.truncate(int(keep * path.stat().st_size))
    with pytest.raises(ArchiveError, match=rf"{kind} \(\d+ bytes\) cannot be read as CLIP weights"):
        read_weights("tiny-random", str(path), activation="gelu")


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": 3}, {1: torch.zeros(1)}, torch.zeros(3)])
def test_other_things_than_a_state_dict(content, tmp_path):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ArchiveError, match="holds no state dict"):
        read_archive(tmp_path / "x.pt")


def test_a_damaged_byte_in_a_jit_archive(tiny, tmp_path):
    path = tmp_path / "x.pt"
    save_jit(tiny, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match="damaged"):
        read_archive(path)


def test_unknown_tag_and_no_default():
    with pytest.raises(
        ValueError, match=r"no weights 'laion9b' for ViT-B-16\. There are openai, .*'random' needs no file"
    ):
        read_weights("ViT-B-16", "laion9b")
    with pytest.raises(ValueError, match="no weights 'openai' for tiny-random"):
        read_weights("tiny-random", "openai")
    with pytest.raises(ValueError, match=r"ViT-H-14 has no 'openai' weights.*laion2b_s32b_b79k.*'random'"):
        read_weights("ViT-H-14")


# --- files that attack ------------------------------------------------------------------------------------------------


class Command:
    """Unpickling this runs a shell command."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def jit_with(pickled, path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/constants.pkl", b"")
        archive.writestr("x/data.pkl", pickled)
        for name, content in members.items():
            archive.writestr(f"x/data/{name.removeprefix('_')}", content)


def attack(kind, path, marker):
    command = Command(f"touch {marker}")
    match kind:
        case "state_dict":
            torch.save({"visual.proj": command}, path)
        case "legacy":
            torch.save({"visual.proj": command}, path, _use_new_zipfile_serialization=False)
        case "bare":
            path.write_bytes(pickle.dumps(command))
        case "jit":
            jit_with(pickle.dumps(command, protocol=2), path)
        case "jit_build":  # sets attributes on what the reader lends, then calls it
            rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
            jit_with(b"\x80\x02" + rebuild + b"}(X\x08\x00\x00\x00__code__cos\nsystem\nub.", path)
        case "jit_builtins":
            jit_with(b"\x80\x02cbuiltins\neval\n.", path)
        case "jit_dotted":
            jit_with(b"\x80\x04\x8c\x09__torch__\x94\x8c\x06os.dup\x94\x93)R.", path)


@pytest.mark.parametrize("kind", ["state_dict", "legacy", "bare", "jit", "jit_build", "jit_builtins"])
def test_code_in_a_file_is_refused_and_not_run(kind, tmp_path):
    path, marker = tmp_path / "clip.pt", tmp_path / "marker"
    attack(kind, path, marker)
    with pytest.raises(ArchiveError, match=r"clip\.pt") as error:
        read_weights("tiny-random", str(path), activation="gelu")
    assert not marker.exists()
    if kind.startswith("jit"):
        assert "nothing was run" in str(error.value) or "cannot be read" in str(error.value)


def test_the_attack_itself_works(tmp_path):
    """Otherwise the tests above would prove nothing."""
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(Command(f"touch {marker}")))
    assert marker.exists()


def test_classes_of_an_archive_stay_inert(tmp_path):
    attack("jit_dotted", tmp_path / "x.pt", None)
    assert read_archive(tmp_path / "x.pt").tensors == {}


class Storage:
    def __init__(self, numel):
        self.numel = numel


class Tensor:
    """Pickles as a TorchScript tensor with a header of our choice."""

    def __init__(self, numel, size, stride, offset=0):
        self.header = Storage(numel), offset, size, stride, False, {}

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.header


class Writer(pickle.Pickler):
    def persistent_id(self, obj):
        return ("storage", torch.FloatStorage, "0", "cpu", obj.numel) if isinstance(obj, Storage) else None


@pytest.mark.parametrize(
    ("tensor", "stored"),
    [
        (Tensor(8, (4,), (1,)), 4),  # header promises more than there is
        (Tensor(4, (1 << 40,), (0,)), 4),  # four numbers as a terabyte
        (Tensor(4, (2, 2), (8, 1)), 4),  # reads behind its end
        (Tensor(4, (2, 2), (2, 1), 1), 4),
        (Tensor(4, (2,), (-1,), 3), 4),
    ],
)
def test_headers_that_lie(tensor, stored, tmp_path):
    buffer = io.BytesIO()
    Writer(buffer, protocol=2).dump(tensor)
    jit_with(buffer.getvalue(), tmp_path / "x.pt", _0=torch.ones(stored).numpy().tobytes())
    with pytest.raises(ArchiveError, match="cannot be read"):
        read_archive(tmp_path / "x.pt")
