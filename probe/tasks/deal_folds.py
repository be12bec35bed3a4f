"""Deal labelled images to the folds of a cross-validation, by nothing but SHA-256: anyone can deal them again.

The order is that of few_shot: SHA-256 of "{seed}/{task}/{image_id}". What is dealt depends on no row order and no
library's random stream, and without groups on no other stratum.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from bb.probe.tasks.few_shot import hash_order


def deal_images(
    image_ids: Sequence[str], strata: Sequence[str], folds: int, *, task: str, seed: int
) -> Int64[np.ndarray, " n"]:
    """(n,) the fold of each image, 0 to folds - 1; image IDs are distinct.

    The images of a stratum (such as a class) are dealt in turn in hash order, so that folds hold equally many of it,
    give or take one. The first goes to the fold that SHA-256 of "fold/{seed}/{task}/{stratum}" gives, so that strata of
    few images do not all begin in fold 0.
    """
    rows = {image_id: row for row, image_id in enumerate(image_ids)}
    members: dict[str, list[str]] = defaultdict(list)
    for image_id, stratum in zip(image_ids, strata, strict=True):
        members[stratum].append(image_id)
    fold = np.empty(len(image_ids), np.int64)
    for stratum, ids in members.items():
        digest = hashlib.sha256(f"fold/{seed}/{task}/{stratum}".encode()).digest()
        first = int.from_bytes(digest[:8]) % folds
        for place, image_id in enumerate(hash_order(ids, task=task, seed=seed)):
            fold[rows[image_id]] = (first + place) % folds
    return fold


def deal_groups(
    groups: Sequence[str], strata: Sequence[str], folds: int, *, task: str, seed: int
) -> Int64[np.ndarray, " n"]:
    """(n,) the fold of each image, where the images of a group share one.

    Groups are dealt large ones first (by powers of two), then in hash order of their names, each to the fold in which
    it leaves the strata and the folds' sizes most even: where the sum of squared shares of each stratum, and of all
    images, grows least. No fold stays empty if there are as many groups as folds.
    """
    stratum = np.unique(np.asarray(strata, np.str_), return_inverse=True)[1]
    rows: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        rows[group].append(row)
    total = np.append(np.bincount(stratum), len(stratum)).astype(float)
    count_FS = np.zeros((folds, len(total)))  # the last column is of all strata together
    fold = np.empty(len(stratum), np.int64)
    in_hash_order = hash_order(list(rows), task=task, seed=seed)
    for group in sorted(in_hash_order, key=lambda name: -len(rows[name]).bit_length()):
        strata_here, n_here = np.unique(stratum[rows[group]], return_counts=True)
        places, added = np.append(strata_here, len(total) - 1), np.append(n_here, len(rows[group]))
        # (c + a)² - c² = a (2c + a), as shares of the stratum
        growth_F = (added * (2 * count_FS[:, places] + added) / total[places] ** 2).sum(1)
        best = int(growth_F.argmin())
        count_FS[best, places] += added
        fold[rows[group]] = best
    return fold
