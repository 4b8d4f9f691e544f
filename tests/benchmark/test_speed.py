# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The arithmetic of the speed table, from given seconds."""

import importlib.util
import sys
from types import SimpleNamespace

import psutil
import pytest

from anomalib_zsad.benchmark import deploy_cell, speed
from anomalib_zsad.benchmark.speed import BARE, OFFICIAL, cells_markdown, tabulate, to_rows
from anomalib_zsad.benchmark.ways import EAGER, Seconds, load_official


def rounds(*walls: float, cpu: float = 2.0) -> list[Seconds]:
    return [Seconds(wall, cpu * wall) for wall in walls]


MEASURED = {
    (BARE, EAGER): rounds(10, 20, 12),  # the second round was disturbed, for everything alike
    (BARE, "openvino f32"): rounds(5, 10, 6),
    ("CoPS", EAGER): rounds(12, 26, 15, cpu=3),
    ("CoPS", "openvino f32"): rounds(6, 13, 7.5),
    ("CoPS", "compiled f32"): [],
    (OFFICIAL, EAGER): rounds(20, 60, 24),
}
REASONS = {("CoPS", "compiled f32"): "no | compiler"}


@pytest.fixture
def cells() -> dict:
    return {(cell.subject, cell.run): cell for cell in tabulate(MEASURED, REASONS, "cpu", 4)}


def test_ratios_are_of_the_same_round(cells) -> None:
    cops = cells["CoPS", EAGER]
    # 1.2, 1.3, 1.25: the ratio of the medians would be 15 / 12 as well, that of the extremes would not
    assert (cops.floor_wall, cops.floor_low, cops.floor_high) == pytest.approx((1.25, 1.2, 1.3))
    assert cops.floor_cpu == pytest.approx(1.25 * 3 / 2)
    assert (cops.wall, cops.wall_low, cops.wall_high, cops.cpu) == pytest.approx((15, 12, 26, 45))
    assert (cops.rounds, cops.batch, cops.device) == (3, 4, "cpu")


def test_the_floor_is_the_tower_run_in_the_same_way(cells) -> None:
    assert cells["CoPS", "openvino f32"].floor_wall == pytest.approx(1.25)
    assert cells[OFFICIAL, EAGER].floor_wall == pytest.approx(2)
    assert cells[BARE, "openvino f32"].floor_wall == 1


def test_the_gain_is_over_the_same_subject_in_eager_float32(cells) -> None:
    assert cells["CoPS", "openvino f32"].gain_wall == pytest.approx(2)
    assert cells["CoPS", "openvino f32"].gain_cpu == pytest.approx(3)
    assert cells[BARE, "openvino f32"].gain_wall == pytest.approx(2)


def test_official_code_is_the_measure_of_methods_only(cells) -> None:
    assert cells["CoPS", EAGER].official_wall == pytest.approx(0.6)
    assert cells["CoPS", "openvino f32"].official_cpu == pytest.approx(0.3)
    assert cells[BARE, EAGER].official_wall is None
    assert cells[OFFICIAL, EAGER].official_wall is None


def test_without_its_floor_a_row_has_seconds_only() -> None:
    (cell,) = tabulate({("CoPS", "openvino f32"): rounds(3)}, {}, "cpu", 1)
    assert cell.wall == 3
    assert (cell.floor_wall, cell.floor_low, cell.gain_wall, cell.official_wall) == (None, None, None, None)
    assert "| 3.000 (3.000 to 3.000) | 6.000 |" in cells_markdown([cell])


def test_a_row_that_could_not_run_names_the_reason(cells) -> None:
    cell = cells["CoPS", "compiled f32"]
    assert (cell.rounds, cell.wall, cell.reason) == (0, None, "no | compiler")
    lines = cells_markdown(list(cells.values())).splitlines()
    assert len(lines) == 2 + len(MEASURED)
    assert len({line.count("|") for line in lines}) == 1
    assert "no / compiler" in lines[6]
    header, *rows = to_rows(list(cells.values()))
    assert len(rows) == len(MEASURED)
    assert {len(row) for row in rows} == {len(header)}


@pytest.mark.parametrize("where", ["nowhere.py:make", "{file}:other", "{file}", "{file}:"])
def test_official_code_that_is_not_there_is_named(tmp_path, where: str) -> None:
    file = tmp_path / "adapter.py"
    file.write_text("def make(backbone, image_size, device):\n    return print\n")
    with pytest.raises(ValueError, match="--official"):
        load_official(where.format(file=file), "tiny-random", 56, "cpu")
    assert load_official(f"{file}:make", "tiny-random", 56, "cpu") is print


def test_it_can_be_imported_on_windows(monkeypatch) -> None:
    """Which has no module resource."""
    monkeypatch.setitem(sys.modules, "resource", None)
    spec = importlib.util.spec_from_file_location("elsewhere", speed.__file__)
    monkeypatch.setitem(sys.modules, "elsewhere", importlib.util.module_from_spec(spec))
    spec.loader.exec_module(sys.modules["elsewhere"])


def test_peak_memory_on_every_system(tmp_path, monkeypatch) -> None:
    linux = deploy_cell.peak_memory()
    monkeypatch.setattr(deploy_cell, "STATUS", tmp_path / "none")
    assert deploy_cell.peak_memory() > 0.9 * linux  # that of a parent may be in it
    monkeypatch.setitem(sys.modules, "resource", None)
    windows = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=123))
    monkeypatch.setattr(psutil, "Process", lambda: windows)
    assert deploy_cell.peak_memory() == 123
