"""Upper bounds of cosines: that they are, how near they are, and where there are none."""

import os
import subprocess
import sys

import numpy as np
import pytest

from bb.probe.int8_bounds import LARGEST_D, Candidates, Int8Rows, choose_centre, is_possible

rng = np.random.default_rng(0)
needs_vnni = pytest.mark.skipif(not is_possible(256), reason="the processor has no AVX-512 VNNI")


def unit(x):
    x = x.astype(np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@needs_vnni
@pytest.mark.parametrize("d", [1, 5, 64, 771])
@pytest.mark.parametrize("shift", [0, 0.3, 30])
def test_bounds_are_above_the_cosines(d, shift):
    x, queries = ((rng.standard_normal((rows, d)) + shift).astype(np.float32) for rows in (500, 21))
    inverse, asking = (1 / np.linalg.norm(each.astype(np.float64), axis=1) for each in (x, queries))
    centre, order = choose_centre(x, inverse), rng.permutation(500).astype(np.int32)
    gallery = [Int8Rows.of(x[some], inverse[some], centre, asking=False) for some in np.split(order, [48, 96, 480])]
    cosine = unit(queries) @ unit(x).T
    for wanted in (20, 500):
        found = Candidates.of(Int8Rows.of(queries, asking, centre, asking=True), gallery, order, wanted)
        for q in range(21):
            row, bound = found.row[q, : found.count[q]], found.bound[q, : found.count[q]]
            assert len(set(row)) == len(row)
            above = bound - cosine[q, row]
            assert above.min(initial=1) > 0 and above.max(initial=0) < 0.05
            assert cosine[q, np.setdiff1d(order, row)].max(initial=-np.inf) <= found.floor[q]
            assert len(row) == 500 if wanted == 500 else d == 1 or 10 < len(row) < 100
    assert not found.count[21:].any()


def test_a_constant_is_taken_away_where_that_helps():
    x = rng.standard_normal((1000, 64)).astype(np.float32)
    for added, expected in ((0, 0), (100 * (np.arange(64) == 3), 1)):
        moved = (x + added).astype(np.float32)
        centre = choose_centre(moved, 1 / np.linalg.norm(moved, axis=1).astype(np.float64))
        assert abs(np.linalg.norm(centre) - expected) < 0.1


def test_an_older_processor_has_none():
    command = [sys.executable, "-c", "from bb.probe.int8_bounds import is_possible; print(is_possible(256))"]
    generic = subprocess.run(command, env=os.environ | {"NUMBA_CPU_NAME": "generic"}, capture_output=True, text=True)
    assert generic.stdout == "False\n", generic.stderr
    assert not is_possible(LARGEST_D + 1)
