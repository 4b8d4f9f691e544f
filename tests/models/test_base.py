# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What a user says, what an adapter was trained with, and the defaults: which of them a config takes."""

import pytest

from anomalib_zsad.models.promptmoe.config import PromptMoEConfig

TINY = {"backbone": "tiny-random", "image_size": 112}


def test_no_value_is_a_value_where_it_is_not_the_default() -> None:
    adapter = PromptMoEConfig.resolve({**TINY, "class_name": "bolt"}).model_dump()
    assert PromptMoEConfig.resolve({}, adapter).class_name == "bolt"
    assert PromptMoEConfig.resolve({"class_name": None}, adapter).class_name is None
    assert PromptMoEConfig.resolve({"layers": None, "image_size": None}, adapter).layers == [2, 4, 6, 8]


def test_what_an_adapter_has_in_place_of_the_defaults_is_told(caplog: pytest.LogCaptureFixture) -> None:
    adapter = PromptMoEConfig.resolve({**TINY, "class_name": "bolt", "top_k": 2, "epochs": 9}).model_dump()
    with caplog.at_level("INFO", "anomalib_zsad.models.base"):
        PromptMoEConfig.resolve({"class_name": "object", "epochs": 3}, adapter)
        PromptMoEConfig.resolve({}, PromptMoEConfig.resolve(TINY).model_dump())
    (record,) = caplog.records
    assert record.getMessage().endswith("stand for the defaults of the same name: class_name='bolt', top_k=2.")
