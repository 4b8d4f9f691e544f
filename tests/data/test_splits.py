# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pandas as pd
import pytest

from anomalib_zsad.data.splits import hold_out, limit


def table(**counts):
    """``bottle=(normals, anomalies)`` rows of each class, mixed."""
    rows = [("D", name, label) for name, pair in counts.items() for label in (0, 1) for _ in range(pair[label])]
    return pd.DataFrame(rows, columns=["dataset", "category", "label_index"]).sample(
        frac=1, random_state=0, ignore_index=True
    )


def counts(samples, rows):
    return samples.iloc[rows].groupby(["category", "label_index"]).size().to_dict()


@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.3, 0.9, 0.999])
def test_hold_out_is_a_stratified_partition(ratio):
    samples = table(bottle=(40, 20), cable=(7, 1), wood=(2, 2))
    kept, held = hold_out(samples, ratio, seed=3)

    assert sorted(kept + held) == list(range(len(samples)))
    sizes = counts(samples, range(len(samples)))
    for stratum, size in sizes.items():
        share = counts(samples, held).get(stratum, 0)
        assert share == (0 if size == 1 else min(max(1, round(ratio * size)), size - 1))


def test_hold_out_follows_the_seed():
    samples = table(bottle=(40, 20))
    assert hold_out(samples, 0.1, 0) == hold_out(samples, 0.1, 0)
    assert hold_out(samples, 0.1, 0) != hold_out(samples, 0.1, 1)


def test_leaving_a_class_out_does_not_change_the_share_of_the_others():
    samples = table(bottle=(40, 20), cable=(30, 10))
    cable = samples[samples.category == "cable"]
    _, held = hold_out(samples, 0.2)
    _, held_alone = hold_out(cable.reset_index(drop=True), 0.2)
    assert [row for row in held if row in cable.index] == cable.index[held_alone].tolist()


@pytest.mark.parametrize(
    ("max_images", "max_anomalies", "expected"),
    [
        (None, None, (40, 20)),
        (None, 5, (40, 5)),
        (30, None, (20, 10)),
        (30, 5, (27, 3)),
        (2, None, (1, 1)),
        (1, None, (0, 1)),
        (100, 100, (40, 20)),
    ],
)
def test_limits(max_images, max_anomalies, expected):
    samples = table(bottle=(40, 20), cable=(0, 3), wood=(3, 0))
    rows = limit(samples, max_images=max_images, max_anomalies=max_anomalies)

    assert rows == sorted(set(rows))
    found = counts(samples, rows)
    assert (found.get(("bottle", 0), 0), found.get(("bottle", 1), 0)) == expected
    assert found["wood", 0] == min(3, max_images or 3)
    assert found["cable", 1] == min(3, max_images or 3, max_anomalies or 3)


def test_limits_never_exceed_the_number_asked_for():
    generator = np.random.default_rng(0)
    for _ in range(200):
        normals, anomalies, most = generator.integers(0, 9, 3).tolist()
        samples = table(a=(normals, anomalies))
        rows = limit(samples, max_images=most + 1)
        assert len(rows) == min(normals + anomalies, most + 1)
        if anomalies:
            assert counts(samples, rows)["a", 1] >= 1


def test_anomalies_of_one_kind_of_defect():
    kinds = {"bottle": ["dent"] * 12 + ["crack"] * 12 + ["stain"] * 3, "cable": ["cut"] * 4 + ["burn"] * 5}
    rows = [("D", name, 1, kind) for name, own in kinds.items() for kind in own]
    rows += [("D", name, 0, "") for name in ("bottle", "cable", "wood") for _ in range(6)]
    samples = pd.DataFrame(rows, columns=["dataset", "category", "label_index", "defect_type"])

    def draw(most, seed=0):
        return samples.iloc[limit(samples, max_anomalies=most, one_defect_type=True, seed=seed)]

    drawn = {"bottle": set(), "cable": set()}
    for seed in range(20):
        chosen = draw(10, seed)
        assert (chosen.label_index == 0).sum() == 18
        for name in drawn:
            own = chosen[(chosen.category == name) & (chosen.label_index == 1)]
            (kind,) = set(own.defect_type)
            drawn[name].add(kind)
            assert len(own) == {"dent": 10, "crack": 10, "cut": 4, "burn": 5}[kind]
    assert drawn == {"bottle": {"dent", "crack"}, "cable": {"cut", "burn"}}  # enough stains there are not
    assert {tuple(draw(1, seed).defect_type.unique()) for seed in range(20)} > {("stain", "cut", "")}
    assert draw(10, 3).equals(draw(10, 3))
    without = samples[samples.category != "cable"].reset_index(drop=True)
    alone = limit(without, max_anomalies=10, one_defect_type=True)
    bottles = draw(10)[draw(10).category == "bottle"]
    assert without.iloc[alone].query("category == 'bottle'").defect_type.tolist() == bottles.defect_type.tolist()
