# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""The binned metrics at the size they are for: 100,000 images of 518 x 518 pixels, really fed."""

import json
import os
import subprocess
import sys

import pytest

CHILD = """
import json, resource, sys
import numpy as np
from scipy import ndimage

limit, copies = (int(one) for one in sys.argv[1:])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))  # more memory is refused
from anomalib_zsad.metrics import evaluate
from anomalib_zsad.metrics.scores import Scores

rng = np.random.default_rng(0)
masks = np.zeros((10, 518, 518), bool)
masks[1::2, 100:160, 200:320] = masks[3::4, 400:404, 10:14] = True
noise = ndimage.gaussian_filter(rng.standard_normal(masks.shape).astype(np.float32), (0, 8, 8))
bases = (0.9 / (1 + np.exp(-20 * noise - masks + 2))).astype(np.float32)
offsets = np.float32([0, 0.013, 0.037, 0.071])
images = [(base + offset, mask) for base, mask in zip(bases, masks) for offset in offsets]

scores = Scores(thresholds=2**16)
for _ in range(copies):
    for scored, mask in images:
        scores.add([float(scored.max())], [bool(mask.any())], scored[None], mask[None])
(row,) = scores.report().rows
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
# metrics do not change when every image is there as often as any other, so a few of them give the exact ones of all
maps, masks = (np.stack(part) for part in zip(*images))
exact = evaluate(maps.max(axis=(1, 2)), masks.any(axis=(1, 2)), maps, masks).mean
print(json.dumps([row.n_normal + row.n_anomalous, peak, row.metrics, exact]))
"""


@pytest.mark.slow
def test_a_hundred_thousand_images_at_518_pixels_stay_below_4_gb_and_agree_with_exact(record_property):
    images, limit = 100_000, 4 * 10**9
    child = [sys.executable, "-W", "ignore", "-c", CHILD, str(limit), str(images // 40)]
    out = subprocess.run(child, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert out.returncode == 0, out.stderr
    seen, peak, binned, exact = json.loads(out.stdout.splitlines()[-1])
    record_property("peak_bytes", peak)
    print(f"{seen} images, peak {peak / 1e9:.2f} GB, binned {binned}, exact {exact}")
    assert seen == images
    assert peak < limit
    assert binned == pytest.approx(exact, abs=1e-4)
