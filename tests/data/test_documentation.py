# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The table of data sets says what the code knows."""

from pathlib import Path

from anomalib_zsad.data.known_sets import SETS, as_markdown

PAGE = Path(__file__).parents[2] / "docs" / "data_sets.md"


def test_the_table_of_data_sets_is_current() -> None:
    table = as_markdown()
    assert table in PAGE.read_text(encoding="utf-8"), "paste known_sets.as_markdown() into docs/data_sets.md"
    assert len(table.splitlines()) == 2 + len(SETS)
