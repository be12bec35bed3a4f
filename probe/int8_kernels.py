"""The compiled half of bb.probe.int8_bounds: make rows integers, multiply them, keep the rows with the greatest bounds.

AVX-512 VNNI adds four products of bytes to each of 16 integers at once (vpdpbusd: Intel 64 and IA-32 Architectures
Software Developer's Manual). As one side is unsigned, the gallery's integers are held 128 too large.
"""

# mypy: disallow-untyped-defs=False
# numba infers the types of what it compiles.

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from bb.probe.numba_cache import compiled

SLACK = 2.0**-15  # twice what less than 8 roundings of float32 make of sizes of less than 32 together
QUERIES, VECTORS = 8, 3  # of a product that is kept in 24 of the 32 registers
GALLERY = 16 * VECTORS


@compiled(fastmath={"reassoc", "contract"})
def quantise(x_ND, inverse_N, centre_D, asking, word_PSR, total_PR, factor_PFR):
    """Fills what bb.probe.int8_bounds.Int8Rows describes; no sum here needs a fixed order, for SLACK covers them."""
    d, steps, rows = x_ND.shape[1], word_PSR.shape[1], word_PSR.shape[2]
    part, whole = np.zeros(4 * steps), np.zeros(4 * steps, np.int32)
    flip = np.int32(0) if asking else np.int32(-2139062144)  # 128 in each byte
    for i in range(word_PSR.shape[0] * rows):
        if i >= x_ND.shape[0]:
            word_PSR[i // rows, :, i % rows] = 0
            factor_PFR[i // rows, 3, i % rows] = -np.inf
            continue
        square = along = largest = 0.0
        for j in range(d):
            unit = x_ND[i, j] * inverse_N[i]
            part[j] = unit - centre_D[j]
            square += part[j] * part[j]
            along += (part[j] if asking else unit) * centre_D[j]
        for j in range(d):
            largest = max(largest, abs(part[j]))
        scale = np.float64(np.float32(largest / 127))
        up = 1 / scale if scale > 0 else 0.0
        total, squares, apart = 0, 0.0, 0.0
        for j in range(d):
            nearest = min(max(np.rint(part[j] * up), -127.0), 127.0)
            off = part[j] - scale * nearest
            apart += off * off
            squares += nearest * nearest
            whole[j] = np.int32(nearest)
        for j in range(d):
            total += whole[j]
        for s in range(steps):
            low = (whole[4 * s] & 255) | (whole[4 * s + 1] & 255) << 8
            high = (whole[4 * s + 2] & 255) << 16 | whole[4 * s + 3] << 24
            word_PSR[i // rows, s, i % rows] = np.int32(low | high) ^ flip
        total_PR[i // rows, i % rows] = -128 * total
        factor = factor_PFR[i // rows, :, i % rows]
        factor[0] = scale
        factor[1] = scale * np.sqrt(squares) if asking else np.sqrt(apart)
        factor[2] = np.sqrt(apart) if asking else np.sqrt(square)
        factor[3] = along + SLACK if asking else along


@intrinsic
def _bound(typing_context, query, gallery, steps, total, asked, answering, floor, bound, higher):
    """Writes the bounds of a panel of queries and one of the gallery, and for each query the bits of those above its
    floor. All but steps (even) are addresses: of words, total, factors (asked, answering), floor and of the results.
    """

    def build(context, builder, signature, arguments):
        query, gallery, steps, total, asked, answering, floor, bound, higher = arguments
        word, single, address = ir.IntType(32), ir.FloatType(), ir.IntType(64)
        words, singles, no_words = ir.VectorType(word, 16), ir.VectorType(single, 16), ir.VectorType(word, 16)(None)
        sum_products = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(words, [words] * 3), "llvm.x86.avx512.vpdpbusd.512"
        )

        def at(base, offset, kind):
            return builder.inttoptr(builder.add(base, address(offset)), kind.as_pointer())

        def everywhere(base, offset, kind):
            none = ir.Constant(ir.VectorType(kind, 16), ir.Undefined)
            one = builder.insert_element(none, builder.load(at(base, offset, kind), align=4), word(0))
            return builder.shuffle_vector(one, none, no_words)

        cells = [(q, v) for q in range(QUERIES) for v in range(VECTORS)]
        totals = [everywhere(total, 4 * q, word) for q in range(QUERIES)]
        before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(address)
        step.add_incoming(address(0), before)
        sums = {cell: builder.phi(words) for cell in cells}
        added = dict(sums)
        left = builder.add(query, builder.mul(step, address(4 * QUERIES)))
        right = builder.add(gallery, builder.mul(step, address(4 * GALLERY)))
        for twice in range(2):  # a step after the other without a jump between
            rows = [builder.load(at(right, 64 * (VECTORS * twice + v), words), align=64) for v in range(VECTORS)]
            for q in range(QUERIES):
                one = everywhere(left, 4 * (QUERIES * twice + q), word)
                for v in range(VECTORS):
                    added[q, v] = builder.call(sum_products, [added[q, v], rows[v], one])
        following = builder.add(step, address(2))
        step.add_incoming(following, loop)
        for q, v in cells:
            sums[q, v].add_incoming(totals[q], before)
            sums[q, v].add_incoming(added[q, v], loop)
        builder.cbranch(builder.icmp_signed("<", following, steps), loop, after)
        builder.position_at_end(after)
        for q in range(QUERIES):
            least, bits = everywhere(floor, 4 * q, single), address(0)
            ours = [everywhere(asked, 4 * (QUERIES * f + q), single) for f in range(4)]
            for v in range(VECTORS):
                theirs = [builder.load(at(answering, 4 * GALLERY * f + 64 * v, singles), align=4) for f in range(4)]
                whole = builder.sitofp(added[q, v], singles)
                above = builder.fadd(ours[3], theirs[3])
                for one, other in [
                    *zip(ours[1:3], theirs[1:3], strict=True),
                    (whole, builder.fmul(ours[0], theirs[0])),
                ]:
                    above = builder.fadd(above, builder.fmul(one, other, flags=["contract"]), flags=["contract"])
                builder.store(above, at(bound, 4 * (GALLERY * q + 16 * v), singles), align=4)
                mask = builder.bitcast(builder.fcmp_ordered(">", above, least), ir.IntType(16))
                bits = builder.or_(bits, builder.shl(builder.zext(mask, address), address(16 * v)))
            builder.store(bits, at(higher, 8 * q, address), align=8)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 9), build


@intrinsic
def _lowest(typing_context, bits):
    """The place of the lowest bit that is set."""

    def build(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.IntType(1)(True))

    return types.int64(types.int64), build


@compiled()
def _compact(bound_C, row_C, kept):
    """Leaves about that many of the greatest, fewer where bounds are equal; returns their number and a floor."""
    low, high = bound_C.min(), bound_C.max()
    for _ in range(20):
        middle, above = (low + high) / np.float32(2), 0
        for i in range(bound_C.size):  # a loop that only counts is compiled to vector instructions
            above += 1 if bound_C[i] > middle else 0
        if above > kept + kept // 4:
            low = middle
        else:
            high = middle
            if above >= kept:
                break
    left = 0
    for i in range(bound_C.size):
        bound_C[left], row_C[left] = bound_C[i], row_C[i]
        left += 1 if bound_C[i] > high else 0
    return left, high


@compiled()
def collect(
    query_PSR, total_PR, asked_PFR, gallery_PSR, answering_PFR, row_N, seen, wanted, bound_QC, row_QC, count_Q, floor_Q
):
    """Adds rows to those with the greatest bounds, of which about wanted are kept: see bb.probe.int8_bounds.Candidates.

    row_N  names of all rows in the gallery's order, of which `seen` went before
    """
    steps, room = query_PSR.shape[1], bound_QC.shape[1]
    bound, higher = np.empty((QUERIES, GALLERY), np.float32), np.empty(QUERIES, np.int64)
    for b in range(gallery_PSR.shape[0]):  # a panel of the gallery stays in the cache while all queries pass
        panel = seen // GALLERY
        is_time = panel & (panel - 1) == 0 and panel & 0x2AAAAAAA != 0  # at 2, 8, 32 and so on
        kept = wanted * seen // row_N.size + 10
        for a in range(query_PSR.shape[0]):
            first = a * QUERIES
            for q in range(first, first + QUERIES):
                if count_Q[q] + GALLERY > room or (is_time and count_Q[q] > kept):
                    count_Q[q], floor_Q[q] = _compact(bound_QC[q, : count_Q[q]], row_QC[q], kept)
            _bound(
                query_PSR[a].ctypes.data, gallery_PSR[b].ctypes.data, steps, total_PR[a].ctypes.data,
                asked_PFR[a].ctypes.data, answering_PFR[b].ctypes.data, floor_Q[first:].ctypes.data,
                bound.ctypes.data, higher.ctypes.data,
            )  # fmt: skip
            for q in range(QUERIES):
                bits, count = higher[q], count_Q[first + q]
                while bits:
                    g = _lowest(bits)
                    bound_QC[first + q, count], row_QC[first + q, count] = bound[q, g], row_N[seen + g]
                    bits &= bits - 1
                    count += 1
                count_Q[first + q] = count
        seen += GALLERY
