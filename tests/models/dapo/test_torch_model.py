# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Defect words as data, options, and the text that is encoded once."""

import pytest
import torch

from anomalib_zsad.models.dapo.config import DAPOConfig
from anomalib_zsad.models.dapo.torch_model import DAPOModel

TINY = {"backbone": "tiny-random", "image_size": 112, "num_prompts": 2}


def build(**options) -> DAPOModel:
    torch.manual_seed(1)
    return DAPOModel(DAPOConfig.resolve({**TINY, "defect_types": ["scratch", "dent"], **options}))


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 112, 112, generator=torch.Generator().manual_seed(0))


# ---- words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ([], "empty"),
        (["scratch", "Scratch"], "'scratch' is in the list twice"),
        (["missing_screw", "missing screw"], "twice"),
        (["scratch", "normal"], "'normal' is not a kind of defect"),
        (["Flawless"], "not a kind of defect"),
        (["scratch", "  "], "not a kind of defect"),
        (["rust " * 40], "40 tokens, at most 20"),
        ("NoSuchData", "MVTecAD, Visa"),
        ("MVTecAD/candle", "bottle, cable"),
    ],
)
def test_bad_words_are_refused_with_the_way_out(words, match: str) -> None:
    with pytest.raises(ValueError, match=match) as error:
        DAPOConfig.resolve({**TINY, "defect_types": words})
    assert str(error.value).startswith("defect_types=")


def test_words_are_given_by_list_or_by_name() -> None:
    def read(words):
        return DAPOConfig.resolve({**TINY, "defect_types": words}).defect_types

    assert read(["Missing_Screw", "dent "]) == ["missing screw", "dent"]
    assert read("MVTecAD/bottle") == ["broken", "contamination"]
    assert len(read("Visa")) == 18
    assert len(DAPOModel(DAPOConfig.resolve(TINY)).words) == 20
    assert len(read([" ".join(["rust"] * 20)])) == 1


def test_an_adapters_words_hold_until_others_are_given() -> None:
    adapter = DAPOConfig.resolve({**TINY, "defect_types": ["cut"], "type_maps": True}).model_dump()
    assert DAPOConfig.resolve({}, adapter).defect_types == ["cut"]
    assert DAPOConfig.resolve({"defect_types": ["dent", "rust"]}, adapter).defect_types == ["dent", "rust"]
    assert DAPOConfig.resolve({}, adapter).type_maps is False
    with pytest.raises(ValueError, match="text_behaviour='corrected'"):
        DAPOConfig.resolve({"text_behaviour": "released"}, adapter)


def test_new_words_need_the_text_tower_once_and_leave_the_image_side_alone() -> None:
    model = build().eval()
    with torch.no_grad():
        before = model.predict(images())
        state = {key: value.clone() for key, value in model.state_dict().items()}
        calls = []
        model.load_clip().text.register_forward_hook(lambda *_: calls.append(1))
        model.name_defects(["scratch", "dent", "oil"])
        more = [model.predict(images()) for _ in range(3)][-1]
        assert len(calls) == 1
        model.name_defects(["scratch", "dent"])
        again = model.predict(images())
    assert more.type_grid.shape[1] == 3
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    for old, new in zip(before, again, strict=True):
        torch.testing.assert_close(new, old)
    # the order of the words is the order of the maps, and changes nothing else
    model.name_defects(["dent", "scratch"])
    turned = model.predict(images())
    torch.testing.assert_close(turned.type_grid, before.type_grid.flip(1))
    torch.testing.assert_close(turned.pred_score, before.pred_score)


def test_kept_text_is_forgotten_when_it_is_out_of_date() -> None:
    model = build().eval()
    with torch.inference_mode():
        first = model.text_features().clone()
    assert not model.text.is_inference()
    assert "text" not in model.state_dict()
    model.train()
    model(images(), torch.tensor([1, 0]))
    for module in model.modules():  # as Lightning leaves a validation: without a call of train()
        module.training = False
    with torch.no_grad():
        model.prompts.defect.mul_(torch.rand_like(model.prompts.defect))
    changed = model.text_features()
    assert (changed[1:] - first[1:]).abs().max() > 1e-3
    model.load_state_dict(build().state_dict())
    assert model.text is None
    model.predict(images()).pred_score.sum().backward()  # text kept in one mode serves the other


def test_kept_text_has_the_precision_of_the_weights() -> None:
    model = build().eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model(images())
    assert model.text.dtype == torch.float32
    plain = build().eval()
    with torch.no_grad():
        assert torch.equal(model(images()).pred_score, plain(images()).pred_score)


# ---- outputs -------------------------------------------------------------------------------------------------------


def test_kinds_sum_to_the_anomaly_map_and_stay_in_range() -> None:
    model = build(type_maps=True).eval()
    with torch.no_grad():
        found, plain = model(images()), build().eval()(images())
    assert found._fields == (*plain._fields, "type_maps", "type_scores")
    assert found.type_maps.shape == (2, 2, 112, 112)
    assert found.type_scores.shape == (2, 2)
    torch.testing.assert_close(found.type_maps.sum(1, keepdim=True), found.anomaly_map)
    assert torch.equal(found.pred_score, plain.pred_score)
    assert torch.equal(found.anomaly_map, plain.anomaly_map)
    assert found.type_maps.min() >= 0
    assert found.type_maps.sum(1).max() <= 1 + 1e-6
    assert (found.type_maps.amax((2, 3)) <= found.type_scores + 1e-6).all()


def test_one_word_is_the_binary_case() -> None:
    with torch.no_grad():
        found = build(defect_types=["dent"]).eval().predict(images())
    torch.testing.assert_close(found.type_scores[:, 0], found.type_grid.amax((1, 2, 3)))


def test_unknown_kinds_train_any_kind() -> None:
    model = build().train()
    unknown = model(images(), torch.tensor([0, 0]))
    torch.testing.assert_close(unknown.type_maps, 1 - unknown.normal_maps)
    torch.testing.assert_close(model(images()).type_maps, unknown.type_maps)
    known = model(images(), torch.tensor([1, 2]))
    assert (known.type_maps < unknown.type_maps).all()


@pytest.mark.parametrize(
    "option",
    [
        {"text_tokens": 0}, {"vision_tokens": 0}, {"text_tokens": 2, "text_depth": 2}, {"text_depth": 3},
        {"vision_depth": 4, "vision_tokens": 1}, {"text_behaviour": "released"}, {"carry": 0.5}, {"num_prompts": 1},
        {"context_tokens": 12}, {"layers": [3, 8]}, {"normal_word": "perfect"}, {"image_score": "both"},
        {"smoothing_sigma": 4.0}, {"temperature": 0.01}, {"defect_types": "MVTecAD-synonyms"},
    ],
    ids=str,
)  # fmt: skip
def test_ablations_are_one_option_and_learn(option: dict) -> None:
    model = build(**option).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.5, 0.999))
    masks = torch.zeros(2, 112, 112, dtype=torch.bool)
    masks[1, 20:70, 30:90] = True
    totals = []
    for _ in range(4):
        output = model(images(), torch.tensor([0, 1]))
        total = sum(model.losses(output, torch.tensor([0, 1]), masks, torch.ones(2, dtype=torch.bool)).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < totals[0]
    with torch.no_grad():
        found = model.eval()(images())
    assert found.anomaly_map.isfinite().all()


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ({"text_depth": 5}, r"text_depth=5: .*1\.\.4"),
        ({"vision_depth": 9}, r"vision_depth=9: .*1\.\.8"),
        ({"context_tokens": 60}, "at most 53"),
        ({"text_behaviour": "fixed"}, "'released' or 'corrected'"),
        ({"carry": 1.5}, "less than or equal to 1"),
    ],
)
def test_bad_options_name_the_allowed_values(option: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        build(**option)


def test_prediction_runs_the_image_tower_once_and_no_text() -> None:
    model = build().eval()
    clip = model.load_clip()
    ran: list[str] = []
    clip.text.register_forward_hook(lambda *_: ran.append("text"))
    clip.visual.register_forward_hook(lambda *_: ran.append("image"))
    with torch.no_grad():
        for _ in range(3):
            model(images())
    assert ran == ["text", "image", "image", "image"]
