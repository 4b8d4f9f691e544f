# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The tables of data sets, and of what the rows of the benchmark need, say what the code knows."""

from pathlib import Path

import pytest

from anomalib_zsad.benchmark.needs import as_markdown as rows_of
from anomalib_zsad.benchmark.plan import read_plan
from anomalib_zsad.data.known_sets import SETS, as_markdown, as_summary

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_data_sets_is_current() -> None:
    table = as_markdown()
    page = (ROOT / "docs" / "data_sets.md").read_text(encoding="utf-8")
    assert table in page, "paste known_sets.as_markdown() into docs/data_sets.md"
    assert len(table.splitlines()) == 2 + len(SETS)


@pytest.mark.parametrize(
    ("marker", "table"),
    [
        ("data sets", as_summary),
        ("benchmark rows", lambda: rows_of(read_plan(ROOT / "configs" / "benchmark" / "field.yaml"))),
    ],
    ids=["data sets", "benchmark rows"],
)
def test_the_tables_of_the_readme_are_current(marker, table) -> None:
    if f"<!-- {marker} -->" not in README:
        pytest.skip(f"README.md has no marker <!-- {marker} -->")
    _, _, rest = README.partition(f"<!-- {marker} -->\n")
    assert rest.partition(f"\n<!-- /{marker} -->")[0].strip() == table()
