# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-zsad backbone evaluate``, as a user calls it."""

import pandas as pd

from anomalib_zsad.cli import main


def test_a_misspelt_method_is_refused_before_anything_is_measured(tmp_path, capsys):
    table = tmp_path / "new" / "table.csv"
    assert main(["backbone", "evaluate", str(table), "--methods", "DAPO", "promptmoe"]) == 1
    captured = capsys.readouterr()
    assert "methods: there is no promptmoe; choose from PromptMoE, CoPS, BayesPFL, DAPO, PromptAD." in captured.err
    assert not captured.out
    assert not table.parent.exists()


def test_the_folder_of_the_table_is_made(tmp_path, capsys):
    table = tmp_path / "new" / "table.csv"
    small = ["--methods", "--images", "16", "--test-images", "12", "--image-size", "56"]
    assert main(["backbone", "evaluate", str(table), *small]) == 0
    assert set(pd.read_csv(table).test_images) == {12}
    assert "| blur difference |" in capsys.readouterr().out
