# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""How far a benchmark is, and the time left, from what similar work has taken."""

import json

from anomalib_zsad.benchmark.cells import all_cells
from anomalib_zsad.benchmark.plan import read_plan
from anomalib_zsad.benchmark.progress import Progress
from anomalib_zsad.benchmark.results import Result, Results
from anomalib_zsad.metrics import Report


def took(seconds):
    return Result(Report(()), {}, {}, seconds)


def test_time_left_comes_from_what_is_alike(tmp_path):
    plan = {
        "output": str(tmp_path / "out"),
        "data": {"VisA": "Visa", "MVTec AD": "MVTecAD", "BTAD": "BTech"},
        "methods": {"CoPS": None, "WinClip": None},
        "conventions": {"A": [{"train": "VisA"}]},
        "seeds": [0, 1],
    }
    (tmp_path / "plan.yaml").write_text(json.dumps(plan))
    cells = all_cells(read_plan(tmp_path / "plan.yaml"))
    results = Results(tmp_path / "out" / "cells")
    progress = Progress(cells, results)
    assert (progress.total, progress.finished, progress.left()) == (6, 0, "")  # nothing is known yet
    mvtec, btad = cells[:2]
    progress.trained(mvtec.training, 600)
    results.put(mvtec.key, took(300))
    assert progress.done(mvtec, took(300)) == "[1/6]"
    # another training, two more tests of CoPS on BTAD, one on MVTec AD, WinClip's two like them for want of its own
    assert progress.left() == " | 35 min left"
    progress.done(btad, took(60))
    assert progress.left() == f" | {(600 + 300 + 60 + 300 + 60) // 60} min left"
    for cell in cells[2:]:
        progress.skip(cell)
    assert progress.left() == ""
    again = Progress(cells, results)
    assert (again.finished, len(again.missing)) == (1, 5)
