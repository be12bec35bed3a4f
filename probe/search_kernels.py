"""The compiled half of the search: keep the best of a tile of scores, and measure the few that are left exactly.

A query's best candidates stand in a binary heap with the worst at its root. A tile is read in runs of columns; a run
without a score above the root costs one vectorised comparison each.
"""

# mypy: disallow-untyped-defs=False
# numba infers the types of what it compiles.

import numpy as np

from bb.probe.numba_cache import compiled

RUN = 64  # columns looked at together


@compiled()
def _replace_worst(score, row, new_score, new_row):
    """Puts a candidate into the heap in place of its worst."""
    place, size = 0, score.shape[0]
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and score[child + 1] < score[child]:
            child += 1
        if score[child] >= new_score:
            break
        score[place], row[place] = score[child], row[child]
        place = child
    score[place], row[place] = new_score, new_row


@compiled()
def scan_rows(tile_QG, query, gallery, sequence, score_QM, row_QM):
    """Offers each row of a tile to its query's heap.

    query, gallery  rows of the items of the tile's rows and columns; an item never answers itself or its sequence
    sequence        (n,) codes, negative for none
    score_QM, row_QM  the heaps, changed in place
    """
    for q in range(tile_QG.shape[0]):
        item, own = query[q], sequence[query[q]]
        score, row = score_QM[q], row_QM[q]
        worst = score[0]
        for start in range(0, tile_QG.shape[1], RUN):
            run = tile_QG[q, start : start + RUN]
            better = 0
            for i in range(run.size):  # one contiguous slice and a count: so it is compiled to vector instructions
                better += 1 if run[i] > worst else 0
            if better:
                for i in range(run.size):
                    if run[i] > worst:
                        other = gallery[start + i]
                        if other != item and (own < 0 or sequence[other] != own):
                            _replace_worst(score, row, run[i], other)
                            worst = score[0]


@compiled()
def scan_columns(tile_GQ, gallery, query, sequence, score_QM, row_QM):
    """The same with the queries along the columns: a tile serves both of its sides where both ask and answer."""
    worst = score_QM[:, 0].copy()
    for g in range(tile_GQ.shape[0]):
        item, own = gallery[g], sequence[gallery[g]]
        for start in range(0, tile_GQ.shape[1], RUN):
            run, limit = tile_GQ[g, start : start + RUN], worst[start : start + RUN]
            better = 0
            for i in range(run.size):
                better += 1 if run[i] > limit[i] else 0
            if better:
                for i in range(run.size):
                    if run[i] > limit[i]:
                        q = start + i
                        other = query[q]
                        if other != item and (own < 0 or sequence[other] != own):
                            _replace_worst(score_QM[q], row_QM[q], run[i], item)
                            limit[i] = score_QM[q, 0]


@compiled()
def _sum(terms):
    """Folds the upper half onto the lower until little is left: a fixed order of adding, in vector instructions."""
    n = terms.size
    while n > 16:
        half = (n + 1) // 2
        lower, upper = terms[: n - half], terms[half:n]
        for i in range(lower.size):
            lower[i] += upper[i]
        n = half
    total = 0.0
    for i in range(n):
        total += terms[i]
    return total


@compiled()
def _dot(x, y, terms):
    """x·y in float64, the same on every machine; `terms` is room for d products."""
    for i in range(x.size):
        terms[i] = np.float64(x[i]) * np.float64(y[i])
    return _sum(terms)


@compiled()
def _apart(x, y, terms):
    """|x - y|² in float64, the same on every machine."""
    for i in range(x.size):
        difference = np.float64(x[i]) - np.float64(y[i])
        terms[i] = difference * difference
    return _sum(terms)


@compiled()
def squares(x_ND):
    """(n,) float64 squared norms, by the sum that `measure` takes."""
    out, terms = np.empty(x_ND.shape[0]), np.empty(x_ND.shape[1])
    for i in range(x_ND.shape[0]):
        out[i] = _dot(x_ND[i], x_ND[i], terms)
    return out


@compiled()
def _cosine(x_ND, square_N, one, other, terms):
    both = square_N[one] * square_N[other]
    if both == 0:
        return 1.0
    apart = min(max(1 - _dot(x_ND[one], x_ND[other], terms) / np.sqrt(both), 0.0), 2.0)
    return np.rint(apart * 4294967296.0) / 4294967296.0


@compiled()
def measure(x_ND, square_N, cosine, one, other, terms):
    """The distance of two rows, float32. Cosine distances are whole multiples of 2^-32, so that noise is not an
    order."""
    if not cosine:
        return np.float32(np.sqrt(_apart(x_ND[one], x_ND[other], terms)))
    return np.float32(_cosine(x_ND, square_N, one, other, terms))


@compiled()
def measure_pairs(x_ND, square_N, cosine, query_Q, row_QM):
    """(q, m) float32 distances of each query to some rows; inf where a row is negative."""
    out = np.full(row_QM.shape, np.inf, np.float32)
    terms = np.empty(x_ND.shape[1])
    for q in range(row_QM.shape[0]):
        for m in range(row_QM.shape[1]):
            if row_QM[q, m] >= 0:
                out[q, m] = measure(x_ND, square_N, cosine, query_Q[q], row_QM[q, m], terms)
    return out


@compiled()
def measure_cosines(x_ND, square_N, query_Q, row_QM):
    """(q, m) float64 cosine distances, whole multiples of 2^-32; inf where a row is negative."""
    out = np.full(row_QM.shape, np.inf)
    terms = np.empty(x_ND.shape[1])
    for q in range(row_QM.shape[0]):
        for m in range(row_QM.shape[1]):
            if row_QM[q, m] >= 0:
                out[q, m] = _cosine(x_ND, square_N, query_Q[q], row_QM[q, m], terms)
    return out


@compiled()
def settle(x_ND, square_N, cosine, query_Q, score_QM, row_QM, slack_Q, nearest_QN, distance_QN, floor_Q):
    """The n nearest among each query's candidates, by exact distance, then by row; written into nearest and distance.

    A score is off by `slack` at most, so the n nearest are among those whose score is within twice the slack of the
    n-th best. Where the heap may have dropped such a one, floor_Q is the score above which all must be looked at; else
    it is -inf.
    """
    m, n = score_QM.shape[1], nearest_QN.shape[1]
    keys = np.empty(m, np.uint64)
    bits, terms = np.empty(1, np.float32), np.empty(x_ND.shape[1])
    for q in range(score_QM.shape[0]):
        ranked = np.sort(score_QM[q])
        floor = ranked[m - n] - 2 * slack_Q[q]
        floor_Q[q] = floor if ranked[0] >= floor and ranked[0] > -np.inf else -np.inf
        if floor_Q[q] > -np.inf:
            continue
        count = 0
        for i in range(m):
            if row_QM[q, i] >= 0 and score_QM[q, i] >= floor:
                bits[0] = measure(x_ND, square_N, cosine, query_Q[q], row_QM[q, i], terms)
                keys[count] = (np.uint64(bits.view(np.uint32)[0]) << np.uint64(32)) | np.uint64(row_QM[q, i])
                count += 1
        keys[:count].sort()
        for i in range(min(count, n)):
            nearest_QN[q, i] = np.int64(keys[i] & np.uint64(0xFFFFFFFF))
            bits.view(np.uint32)[0] = np.uint32(keys[i] >> np.uint64(32))
            distance_QN[q, i] = bits[0]


@compiled()
def settle_bounded(x_ND, square_N, query_Q, bound_QC, row_QC, count_Q, floor_Q, nearest_QK, distance_QK, proven_Q):
    """The k nearest rows of each query by cosine distance, then by row, of candidates with upper bounds of the cosine;
    written into nearest and distance.

    Candidates are measured from the greatest bound down, until a bound is too low for the k nearest. No other row's
    bound is above the floor; where even that is not too low, the query isn't proven: other rows may be nearer.
    """
    k, terms = nearest_QK.shape[1], np.empty(x_ND.shape[1])
    for q in range(query_Q.size):
        nearest, distance, count = nearest_QK[q], distance_QK[q], 0
        for i in np.argsort(-bound_QC[q, : count_Q[q]]):
            if count == k and 1 - np.float64(bound_QC[q, i]) > distance[k - 1]:
                break
            row, place = row_QC[q, i], min(count, k)
            apart = _cosine(x_ND, square_N, query_Q[q], row, terms)
            while place and (
                apart < distance[place - 1] or (apart == distance[place - 1] and row < nearest[place - 1])
            ):
                place -= 1
            for j in range(min(count, k - 1), place, -1):
                distance[j], nearest[j] = distance[j - 1], nearest[j - 1]
            if place < k:
                distance[place], nearest[place] = apart, row
                count = min(count + 1, k)
        proven_Q[q] = count == k and 1 - np.float64(floor_Q[q]) > distance[k - 1]


@compiled()
def count_pairs(tile_QG, query, gallery, sequence, label, cosine, weight, counts_2B):
    """Adds a tile's pairs to counts by distance: of two labels in row 0, of one in row 1; distances are 0 to 2."""
    bins = counts_2B.shape[1]
    for q in range(tile_QG.shape[0]):
        item, own, named = query[q], sequence[query[q]], label[query[q]]
        for g in range(tile_QG.shape[1]):
            other = gallery[g]
            if other != item and (own < 0 or sequence[other] != own):
                score = tile_QG[q, g]
                apart = 1 - score if cosine else np.sqrt(max(-2 * score, np.float32(0)))
                place = min(max(int(apart * (bins // 2)), 0), bins - 1)
                counts_2B[1 if label[other] == named else 0, place] += weight
