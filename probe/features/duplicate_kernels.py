"""The compiled half of `duplicates`: count the bits in which the sketches of two rows differ, for every pair."""

# mypy: disallow-untyped-defs=False
# numba infers the types of what it compiles.

import numpy as np
from numba import types
from numba.extending import intrinsic

from bb.probe.numba_cache import compiled

RUN = 128  # columns looked at together
COLUMNS = 4096


@intrinsic
def _ones(typing_context, word):
    """The processor's count of a word's bits, which is compiled to vector instructions where there are any."""

    def build(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), build


@compiled()
def sieve(sketch_WN, start, stop, cut_first, cut_all, pairs_C2):
    """Writes the pairs (i, j), start <= i < stop and i < j, whose sketches differ in few bits; returns their number.

    sketch_WN  (w, n) uint64
    cut_first  most bits in which the first four words may differ; cut_all: in which all may
    pairs_C2   (c, 2) room for pairs; where it is too small the number is -1
    """
    words, n = sketch_WN.shape
    first, second, third, fourth = sketch_WN[0], sketch_WN[1], sketch_WN[2], sketch_WN[3]
    apart_R = np.empty(RUN, np.uint64)
    count = 0
    for block in range(start, n, COLUMNS):  # small enough to stay in the cache while all rows pass
        last = min(block + COLUMNS, n)
        for i in range(start, min(stop, last)):
            a, b, c, d = first[i], second[i], third[i], fourth[i]
            for begin in range(max(block, i + 1), last, RUN):
                end = min(begin + RUN, last)
                one, two, three, four = first[begin:end], second[begin:end], third[begin:end], fourth[begin:end]
                near = 0
                for j in range(one.size):  # contiguous slices and a count: so it is compiled to vector instructions
                    half = _ones(a ^ one[j]) + _ones(b ^ two[j])
                    apart_R[j] = half + _ones(c ^ three[j]) + _ones(d ^ four[j])
                    near += 1 if apart_R[j] <= cut_first else 0
                if near:
                    for j in range(begin, end):
                        if apart_R[j - begin] <= cut_first:
                            apart = 0
                            for w in range(words):
                                apart += _ones(sketch_WN[w, i] ^ sketch_WN[w, j])
                            if apart <= cut_all:
                                if count == pairs_C2.shape[0]:
                                    return -1
                                pairs_C2[count, 0], pairs_C2[count, 1] = i, j
                                count += 1
    return count
