# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

import logging

import pytest
import torch

from anomalib_zsad.data.definitions import DEFECTS, DEFINITIONS
from anomalib_zsad.models.promptad.components import attention_of
from anomalib_zsad.models.promptad.config import PromptADConfig
from anomalib_zsad.models.promptad.torch_model import PromptADModel

TINY = {"backbone": "tiny-random", "image_size": 112}


def build(**options) -> PromptADModel:
    torch.manual_seed(0)
    return PromptADModel(PromptADConfig.resolve({**TINY, **options})).eval()


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 112, 112, generator=torch.Generator().manual_seed(1))


# ---- schema --------------------------------------------------------------------------------------------------------


def test_defaults_are_the_paper_s_backbone_and_size() -> None:
    config = PromptADConfig.resolve({})
    assert (config.backbone, config.image_size, config.layers) == ("ViT-B-16", 352, [3, 7, 9])
    assert PromptADConfig.resolve(TINY).layers == [2, 5, 6]
    assert len(PromptADModel(config).branches["abnormal"].blocks) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 5}, r"num_heads=5 does not divide width=64; use one of \[1, 2, 4"),
        ({"layers": [2, 9]}, r"out of 1\.\.8"),
        ({"few_shot_source": "good"}, "set k_shot"),
        ({"k_shot": 2, "branches": "normal"}, "use k_shot=0"),
        ({"k_shot": 2, "cross_view": False}, "use k_shot=0"),
        ({"branches": "abn"}, "'both', 'abnormal' or 'normal'"),
        ({"top_fraction": 0.0}, "top_fraction"),
        ({"margin": 0.0}, "margin"),
        ({"defect_types": []}, "defect_types"),
        ({"class_definition": ""}, "class_definition"),
    ],
)
def test_bad_options_name_what_is_allowed(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"branches": "abnormal"},
        {"branches": "normal"},
        {"cross_view": False},
        {"interaction": False},
        {"layers": [3]},
        {"layers": [1, 2, 3, 8]},
        {"width": 20, "num_heads": 2},
        {"mask_supervision": True},
    ],
)
def test_ablations_and_sizes_run_and_every_parameter_learns(options: dict) -> None:
    model = build(**options)
    prediction = model(images(3))
    assert prediction.anomaly_map.shape == (3, 1, 112, 112)
    # With as many normal as anomalous images within the margin, what is added to all scores has no gradient.
    labels, masks = torch.tensor([True, False, False]), torch.zeros(3, 112, 112)
    masks[0, :30] = 1
    losses = model.train().losses(model(images(3)), labels, masks, torch.ones(3, dtype=torch.bool))
    sum(losses.values()).backward()
    assert [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []


# ---- spec's checks -------------------------------------------------------------------------------------------------


def test_attention_lies_between_a_half_and_one() -> None:
    weights = attention_of(torch.linspace(-20, 12, 200))
    assert weights.min() >= 0.5
    assert weights.max() < 1
    assert (weights.diff() >= 0).all()


def test_swapping_the_texts_changes_the_map() -> None:
    model = build(class_name="screw")
    before = model(images())
    (key,) = model._texts
    model._texts[key] = model._texts[key].flip(0)
    after = model(images())
    assert not torch.allclose(before.anomaly_map, after.anomaly_map, atol=1e-3)


def test_squashing_keeps_the_order_and_stays_inside_the_open_interval() -> None:
    values = torch.linspace(-80, 80, 1001)
    squashed = build()._squash(values)
    assert (squashed.diff() > 0).all()
    assert 0 < squashed[0] < squashed[-1] < 1
    assert build(margin=2.0)._squash(torch.tensor(4.0)) == torch.sigmoid(torch.tensor(1.0))


def test_the_score_does_not_depend_on_the_smoothing() -> None:
    rough, smooth = (build(smoothing_sigma=sigma)(images()) for sigma in (0.0, 8.0))
    assert torch.equal(rough.pred_score, smooth.pred_score)
    assert smooth.anomaly_map.std() < rough.anomaly_map.std()


# ---- text ----------------------------------------------------------------------------------------------------------


def test_prompts_of_known_described_and_unknown_classes(caplog: pytest.LogCaptureFixture) -> None:
    model = build(class_name="metal nut")
    assert model.prompts("screw") == (
        DEFINITIONS["screw"].text, f"abnormality of screw is {', '.join(DEFECTS['metal'])}"
    )  # fmt: skip
    assert model.prompts() == model.prompts("metal nut")
    described = build(class_name="screw", class_definition="a thing", defect_types=["rust", "burr"])
    assert described.prompts() == ("a thing", "abnormality of screw is rust, burr")
    assert described.prompts("screw") == model.prompts("screw")  # the config describes the target, not other images
    told = build(defect_types=["rust"])
    assert told.prompts("screw", described=True) == (DEFINITIONS["screw"].text, "abnormality of screw is rust")
    told = build(class_definition="a thing")
    assert told.prompts("screw", described=True) == ("a thing", model.prompts("screw")[1])
    assert not caplog.records
    assert model.prompts("gizmo") == (
        "a photo of a normal gizmo", f"abnormality of gizmo is {', '.join(DEFECTS['any'])}"
    )  # fmt: skip


def test_an_unknown_class_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    model = build()
    with caplog.at_level(logging.WARNING, logger="anomalib_zsad.models.promptad"):
        for _ in range(3):
            model(images(), class_names=["gizmo", "hazelnut"])
    (told,) = [record.getMessage() for record in caplog.records if "promptad" in record.name]
    assert "gizmo" in told
    assert "class_definition" in told


def test_a_text_is_encoded_once_and_is_no_part_of_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(class_name="screw")
    model(images())
    clip = model.load_clip()
    calls = []
    original = type(clip).encode_text
    monkeypatch.setattr(type(clip), "encode_text", lambda self, ids: calls.append(len(ids)) or original(self, ids))
    for _ in range(3):
        model(images(), class_names=["wood", "wood"])
        model(images())
    assert calls == [2]
    assert not [key for key in model.state_dict() if "text" in key or "reference" in key]
    model.train()(images(), class_names=["wood", "pill"])
    assert calls == [2, 2]


def test_a_text_from_inference_mode_can_be_trained_with() -> None:
    model = build()
    with torch.inference_mode():
        model(images(), class_names=["wood", "wood"])
    model.train()(images(), class_names=["wood", "wood"]).scores.sum().backward()


def test_class_words_per_image_equal_one_word_at_a_time() -> None:
    model = build()
    words = ["hazelnut", "pcb1", "screw"]
    together = model(images(3), class_names=words)
    for i, word in enumerate(words):
        alone = build(class_name=word)(images(3)[i : i + 1])
        torch.testing.assert_close(together.pred_score[i : i + 1], alone.pred_score)
        torch.testing.assert_close(together.anomaly_map[i : i + 1], alone.anomaly_map)
    assert together.pred_score[0] != build(class_name="screw")(images(3)).pred_score[0]


def test_too_long_a_definition_is_refused() -> None:
    with pytest.raises(ValueError, match="Shorten it by"):
        build(class_definition="very " * 90 + "long")(images())


def test_references_are_used_by_category() -> None:
    model = build()
    reference = model.embed(images(4))
    words = {"class_names": ["object", "object"], "categories": ["hazelnut", "screw"]}
    plain = model(images(), **words)
    model.references = {"screw": reference}
    some = model(images(), **words)
    assert some.pred_score[0] == plain.pred_score[0]
    assert some.pred_score[1] != plain.pred_score[1]
    model.references = {None: reference}
    everywhere = model(images(), **words)
    assert everywhere.pred_score[0] != plain.pred_score[0]
    assert everywhere.pred_score[1] == some.pred_score[1]
