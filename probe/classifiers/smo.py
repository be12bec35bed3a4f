"""Many small support vector machines, solved to the bit as libsvm solves them: the compiled half of
`bb.probe.classifiers.svm`.

All compiled code stands in this one file because numba's cache on disk notices an edit only to the file of
the function that is called from outside: a helper in another file could change and its old machine code still
run.

The problem
-----------
Of rows x_t with labels y_t = ±1 and kernel values K_st = k(x_s, x_t), Q_st = y_s y_t K_st, C-SVC's dual is

    min_a  f(a) = ½ aᵀQa - Σ a_t     subject to   0 ≤ a_t ≤ C_t,   Σ y_t a_t = 0.

With the gradient G = Qa - 1, let I_up be the t whose y_t a_t may still grow (y=+1, a<C; y=-1, a>0) and I_low
those whose y_t a_t may still shrink. a is optimal if and only if  max_{I_up} -y_t G_t ≤ min_{I_low} -y_t G_t;
the solver stops once the gap is below `tol`. Until then it takes the pair by second-order information (WSS 2
of Fan, Chen and Lin, JMLR 6, 2005): i attains the left maximum, and j, among the t in I_low that violate with
i by b_t = -y_i G_i + y_t G_t > 0, maximises the decrease b_t² / q_t of f, where q_t = K_ii + K_tt - 2 K_it
(or 1e-12 if that is not positive). f is then minimised over (a_i, a_j) in closed form and clipped to the box.
Shrinking, the bookkeeping of bounded variables (Ḡ) that lets the gradient of shrunk ones be rebuilt, and the
bias are those of the LIBSVM paper (Chang and Lin, ACM TIST 2, 2011, sections 4 and 5).

Here y is folded in: the state is g_t = y_t G_t, and K stands where Q would. Negation is exact in floating
point, so each g_t is ±G_t to the bit, and one matrix K serves every C and every pair of classes.

What makes two solvers agree
----------------------------
Few-shot tasks are full of ties: a different last bit, or a different order among equals, ends in another
model. So
  * kernel values are rounded to float32 (K), their diagonal K_tt is not, and all state (a, g, Ḡ) is float64;
  * of equals in either selection the last in position wins. Shrinking swaps positions: rows stay in place
    here, `place[t]` is where row t would stand, `row_at` its inverse;
  * sums that depend on order (Ḡ and g on rebuilding, the bias, the decision value) run in order of position;
  * no multiplication and addition are fused and no sum reordered: fastmath stays off.
"""

import math
from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float64, Int64
from numba import types
from numba.extending import intrinsic

from bb.probe.numba_cache import compiled

LINEAR, POLY, RBF, SIGMOID = 0, 1, 2, 3
TAU = 1e-12
LANES = 16  # rows of K are padded to a multiple of this, so that vector loops have no remainder
MIRROR_BLOCK = 16  # rows of K computed before they are copied into columns: a cache line of float32
U = 2.0**-53


# For what is called at every step: passing arrays to a function costs as much as a pass over them.
_INNER = {"forceinline": True}
# Only for values that are checked or compared with a bound afterwards: a fused multiply-add is harmless.
_APPROXIMATE = {"fastmath": {"contract"}}


# ------------------------------------------------------------------------------------------------------------
# The solver
# ------------------------------------------------------------------------------------------------------------


@intrinsic
@no_type_check
def _larger(typing_context, a, b):
    """max(a, b) of float64 where no NaN occurs and the sign of a zero is indifferent (flags nnan, nsz): on
    these terms LLVM vectorises a loop that accumulates a maximum. No other operation is given any licence."""

    def generate(context, builder, signature, arguments):
        x, y = arguments
        terms = ("nnan", "nsz")
        return builder.select(builder.fcmp_ordered(">", x, y, flags=terms), x, y, flags=terms)

    return types.float64(types.float64, types.float64), generate


@compiled(**_INNER)
def _climb(g, barred, climb):
    """climb = -g where not barred, else -inf; its maximum."""
    best = -np.inf
    for t in range(g.size):
        v = -np.float64(g[t]) - barred[t]
        climb[t] = v
        best = _larger(v, best)
    return best


@compiled(**_INNER)
def _advance(g, kernel, i, j, step_i, step_j, barred, climb):
    """g += K_i step_i + K_j step_j, then as `_climb`, in one pass."""
    best = -np.inf
    for t in range(g.size):
        v = g[t] + (np.float64(kernel[i, t]) * step_i + np.float64(kernel[j, t]) * step_j)
        g[t] = v
        v = -v - barred[t]
        climb[t] = v
        best = _larger(v, best)
    return best


@compiled(**_INNER)
def _gains(g, barred, kernel, i, diagonal, largest, gain):
    """Second-order gains b²/q of pairing every row with i; the greatest gain and the greatest violation b."""
    best, violation, diagonal_i = -1.0, -np.inf, diagonal[i]
    for t in range(g.size):
        b = largest + g[t] - barred[t]
        violation = _larger(b, violation)
        q = diagonal_i + diagonal[t] - 2.0 * np.float64(kernel[i, t])
        q = q if q > 0 else TAU
        v = b * b / q
        v = v if b > 0 else -1.0
        gain[t] = v
        best = _larger(v, best)
    return best, violation


@compiled(**_INNER)
def _last(values, best, place):
    """The greatest place at which `values` equals `best`."""
    last = -1.0
    for t in range(values.size):
        last = _larger(place[t] if values[t] == best else -1.0, last)
    return int(last)


@compiled()
def _axpy(total, kernel, i, step):
    for t in range(total.size):
        total[t] += np.float64(kernel[i, t]) * step


class Space(NamedTuple):
    """The solver's vectors over rows, padded as K is. Those of `state` are float64 but in the test that shows
    why."""

    a: Float64[np.ndarray, " padded"]  # state: the dual variables
    g: Float64[np.ndarray, " padded"]  # state: y_t G_t
    g_bounded: Float64[np.ndarray, " padded"]  # state: y_t Ḡ_t, the part of G + 1 that is due to rows at their cost
    rebuilt: Float64[np.ndarray, " padded"]  # state: scratch of `_rebuild`
    barred_up: Float64[np.ndarray, " padded"]  # 0 where t is in I_up, infinity elsewhere and where t is shrunk
    barred_low: Float64[np.ndarray, " padded"]  # the same of I_low
    climb: Float64[np.ndarray, " padded"]  # what i maximises
    gain: Float64[np.ndarray, " padded"]  # what j maximises
    place: Float64[np.ndarray, " padded"]  # where row t would stand after libsvm's swaps
    row_at: Int64[np.ndarray, " padded"]  # the inverse of `place`


@compiled()
def make_space(n, state):
    """Room for `solve` on up to n rows, with state of the dtype of the array `state`."""
    padded = (n + LANES - 1) // LANES * LANES
    s = np.empty((4, padded), state.dtype)
    v = np.empty((5, padded))
    return Space(s[0], s[1], s[2], s[3], v[0], v[1], v[2], v[3], v[4], np.empty(padded, np.int64))


@compiled()
def _start(n, n_positive, padded, space):
    """All a = 0, so G = -1; the vectors cut to the length of this problem."""
    w = Space(
        space.a[:padded], space.g[:padded], space.g_bounded[:padded], space.rebuilt[:padded],
        space.barred_up[:padded], space.barred_low[:padded], space.climb[:padded], space.gain[:padded],
        space.place[:padded], space.row_at[:padded],
    )  # fmt: skip
    for t in range(padded):
        positive = t < n_positive
        w.a[t] = 0.0
        w.g[t] = 0.0 if t >= n else (-1.0 if positive else 1.0)
        w.g_bounded[t] = 0.0
        w.barred_up[t] = 0.0 if positive else np.inf
        w.barred_low[t] = 0.0 if n_positive <= t < n else np.inf
        w.place[t] = t
        w.row_at[t] = t
    return w


@compiled(**_INNER)
def _bar(t, positive, a_t, cost, barred_up, barred_low):
    """Put row t into I_up and I_low, or not, by where a_t stands between 0 and its cost."""
    at_lower, at_upper = a_t <= 0, a_t >= cost
    barred_up[t] = np.inf if (at_upper if positive else at_lower) else 0.0
    barred_low[t] = np.inf if (at_lower if positive else at_upper) else 0.0


@compiled()
def _rebuild(kernel, n_positive, c_positive, c_negative, active, w):
    """Rebuild g of the shrunk rows from Ḡ and the free variables, and let all rows take part again."""
    n = kernel.shape[0]
    for t in range(n):
        w.rebuilt[t] = w.g_bounded[t] - (1.0 if t < n_positive else -1.0)
    for p in range(active):
        i = w.row_at[p]
        if 0 < w.a[i] < (c_positive if i < n_positive else c_negative):
            _axpy(w.rebuilt, kernel, i, w.a[i] if i < n_positive else -w.a[i])
    for p in range(active, n):
        t = w.row_at[p]
        w.g[t] = w.rebuilt[t]
        cost = c_positive if t < n_positive else c_negative
        _bar(t, t < n_positive, w.a[t], cost, w.barred_up, w.barred_low)


@compiled()
def _may_shrink(t, largest_up, largest_low, w):
    """Whether row t, at a bound, is on the right side of every active row it could be paired with."""
    if w.barred_up[t] > 0 and w.barred_low[t] == 0:
        return -w.g[t] > largest_up
    if w.barred_low[t] > 0 and w.barred_up[t] == 0:
        return w.g[t] > largest_low
    return False


@compiled()
def _shrink(kernel, n_positive, c_positive, c_negative, tol, largest_up, active, reopened, w):
    """Swap rows that may shrink behind the active ones; the number that stay active. Close to the solution
    all rows are first let in again, once (`reopened`)."""
    n = kernel.shape[0]
    largest_low = -np.inf
    for t in range(n):
        if w.barred_low[t] == 0:
            largest_low = max(largest_low, w.g[t])
    if not reopened and largest_up + largest_low <= tol * 10:
        reopened = True
        _rebuild(kernel, n_positive, c_positive, c_negative, active, w)
        active = n
    p = 0
    while p < active:
        t = w.row_at[p]
        if _may_shrink(t, largest_up, largest_low, w):
            active -= 1
            while active > p:
                s = w.row_at[active]
                if not _may_shrink(s, largest_up, largest_low, w):
                    w.row_at[p], w.row_at[active] = s, t
                    w.place[s], w.place[t] = p, active
                    break
                active -= 1
        p += 1
    for p in range(active, n):
        w.barred_up[w.row_at[p]] = np.inf
        w.barred_low[w.row_at[p]] = np.inf
    return active, reopened


# Reading a field of `Space` counts a reference, which costs as much as a pass over a short vector: functions
# of every step take the vectors themselves.


@compiled(**_INNER)
def _select(kernel, diagonal, largest, tol, g, barred_low, climb, gain, place, row_at):
    """The pair to move next; j = -1 if the active rows are optimal."""
    if largest == -np.inf:
        return -1, -1
    i = row_at[_last(climb, largest, place)]
    best, violation = _gains(g, barred_low, kernel, i, diagonal, largest, gain)
    if violation < tol or best < 0:
        return i, -1
    return i, row_at[_last(gain, best, place)]


@compiled(**_INNER)
def _clip(a_i, a_j, step, same, c_i, c_j):
    """Move (a_i, a_j) by `step` along the constraint Σ y a = const and back into the box, in libsvm's order
    of tests."""
    if same:
        total = a_i + a_j
        a_i -= step
        a_j += step
        if total > c_i:
            if a_i > c_i:
                a_i, a_j = c_i, total - c_i
        elif a_j < 0:
            a_j, a_i = 0.0, total
        if total > c_j:
            if a_j > c_j:
                a_j, a_i = c_j, total - c_j
        elif a_i < 0:
            a_i, a_j = 0.0, total
    else:
        gap = a_i - a_j
        a_i += step
        a_j += step
        if gap > 0:
            if a_j < 0:
                a_j, a_i = 0.0, gap
        elif a_i < 0:
            a_i, a_j = 0.0, -gap
        if gap > c_i - c_j:
            if a_i > c_i:
                a_i, a_j = c_i, c_i - gap
        elif a_j > c_j:
            a_j, a_i = c_j, c_j + gap
    return a_i, a_j


@compiled(**_INNER)
def _move(kernel, diagonal, i, j, i_positive, j_positive, c_i, c_j, a, g, g_bounded, barred_up, barred_low, climb):
    """Minimise f over (a_i, a_j); the largest -g in I_up afterwards."""
    q = diagonal[i] + diagonal[j] - 2.0 * np.float64(kernel[i, j])
    q = q if q > 0 else TAU
    step = (g[i] - g[j]) / q if j_positive else (g[j] - g[i]) / q
    old_i, old_j = np.float64(a[i]), np.float64(a[j])
    a_i, a_j = _clip(old_i, old_j, step, i_positive == j_positive, c_i, c_j)
    a[i], a[j] = a_i, a_j
    _bar(i, i_positive, a_i, c_i, barred_up, barred_low)
    _bar(j, j_positive, a_j, c_j, barred_up, barred_low)
    if (a_i >= c_i) != (old_i >= c_i):
        _axpy(g_bounded, kernel, i, c_i if i_positive == (a_i >= c_i) else -c_i)
    if (a_j >= c_j) != (old_j >= c_j):
        _axpy(g_bounded, kernel, j, c_j if j_positive == (a_j >= c_j) else -c_j)
    step_i = a_i - old_i if i_positive else old_i - a_i
    step_j = a_j - old_j if j_positive else old_j - a_j
    return _advance(g, kernel, i, j, step_i, step_j, barred_up, climb)


@compiled()
def _bias(n, n_positive, c_positive, c_negative, w):
    """rho: the mean of g over free rows, or the middle of the interval the bounded ones leave."""
    n_free, total, upper, lower = 0, 0.0, np.inf, -np.inf
    for p in range(n):
        t = w.row_at[p]
        positive = t < n_positive
        at_upper = w.a[t] >= (c_positive if positive else c_negative)
        if not at_upper and w.a[t] > 0:
            n_free += 1
            total += w.g[t]
        elif at_upper == positive:
            lower = max(lower, w.g[t])
        else:
            upper = min(upper, w.g[t])
    return total / n_free if n_free > 0 else (upper + lower) / 2


@compiled()
def solve(kernel, diagonal, n_positive, c_positive, c_negative, tol, space):
    """Solve one two-class problem whose first `n_positive` rows are the positive class.

    kernel      (n, padded) float32   K, columns padded with zeros to a multiple of LANES
    diagonal    (padded,)   float64   K_tt unrounded
    space       from `make_space`; space.a holds a on return

    Returns rho, the number of steps, and the largest a on the way in the positive and in the negative class.
    """
    n = kernel.shape[0]
    w = _start(n, n_positive, kernel.shape[1], space)
    a, g, g_bounded, _, barred_up, barred_low, climb, gain, place, row_at = w
    peak_positive, peak_negative = 0.0, 0.0
    active, n_steps, reopened = n, 0, False
    period = min(n, 1000)
    countdown = period + 1
    largest = _climb(g, barred_up, climb)
    while True:
        countdown -= 1
        if countdown == 0:
            countdown = period
            active, reopened = _shrink(kernel, n_positive, c_positive, c_negative, tol, largest, active, reopened, w)
            largest = _climb(g, barred_up, climb)
        i, j = _select(kernel, diagonal, largest, tol, g, barred_low, climb, gain, place, row_at)
        if j < 0:
            if active == n:
                break
            # Optimal among the active rows: look at all before believing it, and shrink anew.
            _rebuild(kernel, n_positive, c_positive, c_negative, active, w)
            active, countdown = n, 1
            largest = _climb(g, barred_up, climb)
            i, j = _select(kernel, diagonal, largest, tol, g, barred_low, climb, gain, place, row_at)
            if j < 0:
                break
        n_steps += 1
        i_positive, j_positive = i < n_positive, j < n_positive
        c_i = c_positive if i_positive else c_negative
        c_j = c_positive if j_positive else c_negative
        largest = _move(
            kernel,
            diagonal,
            i,
            j,
            i_positive,
            j_positive,
            c_i,
            c_j,
            a,
            g,
            g_bounded,
            barred_up,
            barred_low,
            climb,
        )
        for t in (i, j):
            if t < n_positive:
                peak_positive = max(peak_positive, a[t])
            else:
                peak_negative = max(peak_negative, a[t])
    return _bias(n, n_positive, c_positive, c_negative, w), n_steps, peak_positive, peak_negative


# ------------------------------------------------------------------------------------------------------------
# Standardising and dot products
# ------------------------------------------------------------------------------------------------------------


# Of features, and only of them, callers pass arrays that may be read-only (a memory map), which numba takes
# for another type; declaring it here accepts both without compiling twice.
_FEATURES = types.Array(types.float32, 2, "C", readonly=True)


@compiled((_FEATURES, types.int64[::1]))
def moments(x, rows):
    """Mean and scale of columns as StandardScaler finds them: float64 sums of float32 rows, in the order of
    `rows`, a corrected two-pass variance (Chan, Golub and LeVeque 1983), and scale 1 where a column is
    constant but for rounding.
    """
    n, d = rows.size, x.shape[1]
    total, mean, wander, square, scale = np.zeros(d), np.empty(d), np.zeros(d), np.zeros(d), np.ones(d)
    for r in rows:
        for k in range(d):
            total[k] += x[r, k]
    for k in range(d):
        mean[k] = total[k] / n
    for r in rows:
        for k in range(d):
            z = x[r, k] - mean[k]
            wander[k] += z
            square[k] += z * z
    eps = 2 * U
    for k in range(d):
        variance = (square[k] - wander[k] * wander[k] / n) / n
        noise = n * mean[k] * eps
        if not variance <= n * eps * variance + noise * noise:
            scale[k] = math.sqrt(variance)
    return mean.astype(np.float32), scale.astype(np.float32)


@compiled((_FEATURES, types.int64[::1], types.float32[::1], types.float32[::1]))
def standardise(x, rows, mean, scale):
    """Rows of x, centred and scaled in float32 as StandardScaler does, then widened as SVC does."""
    z = np.empty((rows.size, x.shape[1]))
    for i in range(rows.size):
        x_i, z_i = x[rows[i]], z[i]
        for k in range(z.shape[1]):
            z_i[k] = (x_i[k] - mean[k]) / scale[k]
    return z


@compiled()
def gram(z):
    """All dot products of rows, each by the BLAS routine (ddot) that libsvm calls, so that every bit is
    libsvm's.

    A matrix product takes half the time, but sums in another order: what its last bits would leave in doubt
    after rounding to float32 (one value in 10^3 near zero) costs as much to find and settle as this.
    """
    n = z.shape[0]
    dots = np.empty((n, n))
    for start in range(0, n, 4):  # four rows stay in the first-level cache while the others pass by
        stop = min(start + 4, n)
        for j in range(start, n):
            for i in range(start, min(stop, j + 1)):
                v = np.dot(z[i], z[j])
                dots[i, j] = v
                dots[j, i] = v
    return dots


@compiled()
def _squares(z):
    out = np.empty(z.shape[0])
    for i in range(z.shape[0]):
        out[i] = np.dot(z[i], z[i])
    return out


# ------------------------------------------------------------------------------------------------------------
# Kernels: elementwise functions of dot products and squared norms
# ------------------------------------------------------------------------------------------------------------
# libm's exp and tanh, which libsvm calls, would cost more than all the rest. A polynomial that vectorises
# serves as well: rounded to float32 it gives the same value, unless value ± its error bound round differently
# (about one in 10^6); there libm is asked.

_LOG2_E = 1.4426950408889634
_LN2 = 0.6931471805599453
_SHIFT = 6755399441055744.0  # 1.5 · 2^52: adding it rounds to an integer, which then stands in the low bits
_SLACK = 3e-14  # relative error of `_exp` and `_tanh` against libm, generously (tests measure it)


@compiled(**_APPROXIMATE)
def _exp_parts(x):
    """(s, s·e) with exp(x) = s + s·e, s a power of two and |e| < 0.42."""
    shifted = x * _LOG2_E + _SHIFT
    k = shifted - _SHIFT
    r = x - k * _LN2
    e = 1 / 479001600.0
    e = e * r + 1 / 39916800.0
    e = e * r + 1 / 3628800.0
    e = e * r + 1 / 362880.0
    e = e * r + 1 / 40320.0
    e = e * r + 1 / 5040.0
    e = e * r + 1 / 720.0
    e = e * r + 1 / 120.0
    e = e * r + 1 / 24.0
    e = e * r + 1 / 6.0
    e = e * r + 0.5
    e = e * r * r + r
    s = np.int64((np.float64(shifted).view(np.int64) << 52) + (1023 << 52)).view(np.float64)
    return s, s * e


@compiled(**_APPROXIMATE)
def _exp(x):
    """exp(x) for x up to 700; 1e-304 below -700."""
    s, e = _exp_parts(x if x > -700.0 else -700.0)
    return s + e


@compiled(**_APPROXIMATE)
def _tanh(x):
    """tanh(x) = E/(E+2) with E = exp(2x) - 1, accurate at zero too."""
    x = x if x > -30.0 else -30.0
    x = x if x < 30.0 else 30.0
    s, e = _exp_parts(2 * x)
    e = (s - 1.0) + e
    return e / (e + 2.0)


@compiled()
def kernel_value(kind, gamma, dot, square_i, square_j):
    """One kernel value in libsvm's own sequence of operations (degree 3, coef0 0), from libm."""
    if kind == LINEAR:
        return dot
    if kind == POLY:
        b = gamma * dot
        return b * (b * b)
    if kind == RBF:
        return math.exp(-gamma * (square_i + square_j - 2 * dot))
    return math.tanh(gamma * dot)


@compiled(**_APPROXIMATE)
def _row(kind, gamma, dots, i, n, square_i, squares, out):
    """Kernel values of row i against the first n columns, in float64. (Whole arrays and an index: slices cost
    more.)"""
    if kind == LINEAR:
        for t in range(n):
            out[t] = dots[i, t]
    elif kind == POLY:
        for t in range(n):
            b = gamma * dots[i, t]
            out[t] = b * b * b
    elif kind == RBF:
        for t in range(n):
            out[t] = _exp(-gamma * (square_i + squares[t] - 2 * dots[i, t]))
    else:
        for t in range(n):
            out[t] = _tanh(gamma * dots[i, t])


@compiled()
def _round_row(values, n, kernel, i):
    """Round the first n values to float32 into row i; how many are so near a rounding boundary that `_SLACK`
    matters."""
    n_unsure = 0
    for t in range(n):
        low, high = np.float32(values[t] * (1 - _SLACK)), np.float32(values[t] * (1 + _SLACK))
        kernel[i, t] = high
        n_unsure += low != high
    return n_unsure


@compiled()
def fill_kernel(kind, gamma, dots, squares, kernel, diagonal, row):
    """K rounded to float32 into `kernel` (n, padded), its unrounded diagonal into `diagonal`: every bit as
    libsvm's.

    dots (n, n) as `gram` gives them, squares (n,) their diagonal; row (n,) is scratch.
    """
    n = dots.shape[0]
    for i in range(n):
        diagonal[i] = 1.0 if kind == RBF else kernel_value(kind, gamma, squares[i], squares[i], squares[i])
    if kind in (LINEAR, POLY):
        for i in range(n):
            for t in range(n):
                kernel[i, t] = kernel_value(kind, gamma, dots[i, t], 0.0, 0.0)
        return
    for start in range(0, n, MIRROR_BLOCK):
        stop = min(start + MIRROR_BLOCK, n)
        for i in range(start, stop):
            _row(kind, gamma, dots, i, stop, squares[i], squares, row)
            if _round_row(row, stop, kernel, i) > 0:
                for t in range(stop):
                    if np.float32(row[t] * (1 - _SLACK)) != np.float32(row[t] * (1 + _SLACK)):
                        kernel[i, t] = kernel_value(kind, gamma, dots[i, t], squares[i], squares[t])
        for t in range(start):
            for i in range(start, stop):
                kernel[t, i] = kernel[i, t]


# ------------------------------------------------------------------------------------------------------------
# Classifiers: one against one, over the candidates of a search
# ------------------------------------------------------------------------------------------------------------
# Rows come grouped by class, classes ascending, in their old order within a class: libsvm trains class a
# against class b > a on the rows of a (y = +1) followed by those of b (y = -1). `starts[a]` is the first row
# of class a.
#
# Sharing among costs. A linear kernel does not depend on gamma, so the linear candidates of a search differ
# in C alone, and C enters the solver only by comparisons: a_t >= C (is t at its bound?) and, on clipping, a_i
# > C or a_i + a_j > C or a_i - a_j > C_i - C_j. Suppose a run's largest a ever, clipped or not yet, stays
# below a cost c, and repeat the run with c. By induction every step is the same: no a_t >= c, so no row is at
# its bound (nor was it in the first run, whose own cost is above its peak or above c) and selection and
# shrinking see the same sets, Ḡ stays 0; in clipping, whichever branch the test of the sum or of the
# difference takes, the assignments behind it need a_i > c or a_j > c (which would be a peak above c) or a_j <
# 0, a_i < 0, whose outcome the first run shares: it could differ only if a_i + a_j > c and a_j < 0, where the
# first run would have put a_i = a_i + a_j > c, again a peak above c. So the result is the same to the bit. At
# a = c exactly the row would count as bounded: the comparison is strict. Visiting costs in descending order
# makes one run serve as many others as possible.


@compiled()
def _pair_block(kernel, starts, a, b, memory):
    """The rows and columns of classes a and b, copied together, in `memory`."""
    n_a, n_b = starts[a + 1] - starts[a], starts[b + 1] - starts[b]
    n = n_a + n_b
    padded = (n + LANES - 1) // LANES * LANES
    block = memory[: n * padded].reshape(n, padded)
    for i in range(n):
        row = kernel[starts[a] + i if i < n_a else starts[b] + i - n_a]
        block[i, :n_a] = row[starts[a] : starts[a + 1]]
        block[i, n_a:n] = row[starts[b] : starts[b + 1]]
        block[i, n:] = 0
    return block


@compiled()
def _solve_pairs(kernel, diagonal, starts, cost, weights, tol, share, space, memory, model):
    """Train every pair of classes at one cost, except those whose last solution holds at this cost too; how
    many."""
    coef, rho, steps, peaks = model
    n_classes = starts.size - 1
    pair, n_solved = -1, 0
    for a in range(n_classes):
        for b in range(a + 1, n_classes):
            pair += 1
            cost_a, cost_b = cost * weights[a], cost * weights[b]
            if share and peaks[pair, 0] < cost_a and peaks[pair, 1] < cost_b:
                continue
            n_a, n_b = starts[a + 1] - starts[a], starts[b + 1] - starts[b]
            if n_classes == 2:
                block, block_diagonal = kernel, diagonal
            else:
                block = _pair_block(kernel, starts, a, b, memory)
                block_diagonal = np.zeros(block.shape[1])
                block_diagonal[:n_a] = diagonal[starts[a] : starts[a + 1]]
                block_diagonal[n_a : n_a + n_b] = diagonal[starts[b] : starts[b + 1]]
            solution = solve(block, block_diagonal, n_a, cost_a, cost_b, tol, space)
            rho[pair], steps[pair], peaks[pair, 0], peaks[pair, 1] = solution
            coef[pair] = 0
            for i in range(n_a):
                coef[pair, starts[a] + i] = space.a[i]
            for i in range(n_b):
                coef[pair, starts[b] + i] = -space.a[n_a + i]
            n_solved += 1
    return n_solved


@compiled()
def _decision_as_libsvm(kind, gamma, z, x, coef, rho):
    """One decision value in libsvm's own sequence of operations; the distances of rbf from differences, as it
    does."""
    total = 0.0
    for i in range(z.shape[0]):
        if coef[i] != 0:
            if kind == RBF:
                difference = z[i] - x
                value = math.exp(-gamma * np.dot(difference, difference))
            else:
                value = kernel_value(kind, gamma, np.dot(z[i], x), 0.0, 0.0)
            total += coef[i] * value
    return total - rho


@compiled()
def decide(kind, gamma, z, squares, z_test, squares_test, dots, coef, rho, decision, row):
    """Decision values (n_pairs, m), positive for the first class of a pair; each of libsvm's sign for
    certain.

    `dots` (n, m) come from a matrix product, whose last bits are not libsvm's. Where a value is so close to
    zero that this could turn its sign (constant features, symmetric duplicates), it is computed anew as
    libsvm does.
    """
    n = z.shape[0]
    decision[:] = 0
    for i in range(n):
        filled = False
        for pair in range(coef.shape[0]):
            c = coef[pair, i]
            if c != 0:
                if not filled:
                    _row(kind, gamma, dots, i, row.size, squares[i], squares_test, row)
                    filled = True
                for t in range(row.size):
                    decision[pair, t] += c * row[t]

    reach = max(squares.max(), squares_test.max())
    # |fl(x·z) - x·z| <= (d+1) U |x||z| in whatever order it is summed (Higham 2002, section 3.1); twice, for
    # two orders
    doubt = 2 * (z.shape[1] + 8) * U * reach
    if kind == LINEAR:
        size = reach
    elif kind == POLY:
        size = (gamma * reach) ** 3
        doubt = 4 * gamma * doubt * (gamma * reach) ** 2 + _SLACK * size
    elif kind == RBF:
        doubt, size = 8 * gamma * doubt + _SLACK, 1.0
    else:
        doubt, size = 2 * gamma * doubt + _SLACK, 1.0
    for pair in range(coef.shape[0]):
        weight = np.abs(coef[pair]).sum()
        sure = weight * (doubt + (n + 2) * 2 * U * size) + 4 * U * abs(rho[pair])
        for t in range(row.size):
            decision[pair, t] -= rho[pair]
            if abs(decision[pair, t]) <= sure:
                decision[pair, t] = _decision_as_libsvm(kind, gamma, z, z_test[t], coef[pair], rho[pair])


@compiled()
def vote(decision, n_classes):
    """Class indices (m,): the most votes among pairs, of equals the first; a decision of zero is for the
    second."""
    labels = np.empty(decision.shape[1], np.int64)
    votes = np.empty(n_classes, np.int64)
    for t in range(labels.size):
        votes[:] = 0
        pair = 0
        for a in range(n_classes):
            for b in range(a + 1, n_classes):
                votes[a if decision[pair, t] > 0 else b] += 1
                pair += 1
        labels[t] = np.argmax(votes)
    return labels


@compiled()
def score_candidates(z, starts, z_test, y_test, kinds, gammas, costs, visit, weights, tol, share, state):
    """Accuracy on the test rows of every candidate trained on the training rows.

    z         (n, d) float64     training rows, grouped by class
    z_test    (m, d) float64     test rows, y_test (m,) int64 their class indices
    kinds, gammas, costs (k,)    the candidates; `visit` (k,) is the order to take them in: linear ones first,
                                 costs descending, where `share` may save work
    weights   (n_classes,)       factors of the cost
    state     empty array whose dtype is the solver's state's: float64 but in the test that shows why

    Returns scores (k,), steps (k, n_pairs) and the number of solver runs that sharing saved.
    """
    n, n_classes = z.shape[0], starts.size - 1
    n_pairs = n_classes * (n_classes - 1) // 2
    dots = gram(z)
    squares = np.diag(dots).copy()
    squares_test = _squares(z_test)
    dots_test = np.dot(z, z_test.T)
    space = make_space(n, state)
    padded = space.a.size
    kernel, diagonal = np.zeros((n, padded), np.float32), np.zeros(padded)
    memory = np.empty(kernel.size + LANES * n if n_classes > 2 else 0, np.float32)
    row, row_test, decision = np.empty(n), np.empty(z_test.shape[0]), np.empty((n_pairs, z_test.shape[0]))
    coef, rho, steps, peaks = (
        np.empty((n_pairs, n)),
        np.empty(n_pairs),
        np.empty(n_pairs, np.int64),
        np.empty((n_pairs, 2)),
    )

    scores, all_steps, n_shared = np.empty(costs.size), np.empty((costs.size, n_pairs), np.int64), 0
    last_kind, last_score = -1, 0.0
    for c in visit:
        if kinds[c] != LINEAR or last_kind != LINEAR:
            fill_kernel(kinds[c], gammas[c], dots, squares, kernel, diagonal, row)
            peaks[:] = np.inf
        n_solved = _solve_pairs(
            kernel, diagonal, starts, costs[c], weights, tol, share, space, memory, (coef, rho, steps, peaks)
        )
        if n_solved > 0:
            decide(
                kinds[c],
                gammas[c],
                z,
                squares,
                z_test,
                squares_test,
                dots_test,
                coef,
                rho,
                decision,
                row_test,
            )
            last_score = (vote(decision, n_classes) == y_test).sum() / y_test.size
        scores[c], all_steps[c] = last_score, steps
        n_shared += n_pairs - n_solved
        last_kind = kinds[c]
    return scores, all_steps, n_shared


@compiled()
def fit_candidate(z, starts, kind, gamma, cost, weights, tol, state):
    """Train one candidate: signed dual coefficients (n_pairs, n), rho (n_pairs,), steps (n_pairs,)."""
    n, n_classes = z.shape[0], starts.size - 1
    n_pairs = n_classes * (n_classes - 1) // 2
    dots = gram(z)
    space = make_space(n, state)
    padded = space.a.size
    kernel, diagonal = np.zeros((n, padded), np.float32), np.zeros(padded)
    memory = np.empty(kernel.size + LANES * n if n_classes > 2 else 0, np.float32)
    fill_kernel(kind, gamma, dots, np.diag(dots).copy(), kernel, diagonal, np.empty(n))
    coef, rho, steps = np.empty((n_pairs, n)), np.empty(n_pairs), np.empty(n_pairs, np.int64)
    peaks = np.full((n_pairs, 2), np.inf)
    _solve_pairs(kernel, diagonal, starts, cost, weights, tol, False, space, memory, (coef, rho, steps, peaks))
    return coef, rho, steps


@compiled()
def decide_candidate(z, z_test, kind, gamma, coef, rho):
    """Decision values (n_pairs, m) of one trained candidate, and the class indices (m,) they vote for."""
    decision = np.empty((coef.shape[0], z_test.shape[0]))
    n_classes = int((1 + math.sqrt(1 + 8 * coef.shape[0])) / 2)
    decide(
        kind, gamma, z, _squares(z), z_test, _squares(z_test), np.dot(z, z_test.T), coef, rho, decision,
        np.empty(z_test.shape[0]),
    )  # fmt: skip
    return decision, vote(decision, n_classes)
