"""Newton's method for a multinomial fit of few rows, compiled whole: there NumPy's calls take longer than their work.

The steps of softmax_path.py with the Hessian itself in place of its model, in float64: conjugate gradients on products
with it, its diagonal as preconditioner, restricted to what is orthogonal to 1 over classes. They end at min(0.1, √g) of
where they began, g the gradient's norm over that of λW (Nocedal and Wright, Numerical Optimization, 7.1). All of it is
loops, since numba takes five times as long to compile array expressions.
"""

# mypy: disallow-untyped-defs=False
# numba infers the types of what it compiles.

import numpy as np

from bb.probe.numba_cache import compiled

NEWTON_STEPS = 30
CG_STEPS = 300


@compiled()
def newton(z_NR, y_N, squares_R, w_KR, lam, largest_mean, stop, stop_relative):
    """Moves w to the solution at λ; the last column is b's, without a penalty. Returns the passes over the rows, or 0
    where NEWTON_STEPS do not show that the solution is as near as softmax_path.py asks.
    """
    n, k, width = len(z_NR), len(w_KR), w_KR.shape[1]
    p_NK, t_NK, doubt_N = np.empty((n, k)), np.empty((n, k)), np.empty(n)
    g_KR, step_KR = np.empty((k, width)), np.empty((k, width))
    ahead_KR, inverse_KR = np.empty((k, width)), np.empty((k, width))
    value, passes = _point(z_NR, y_N, w_KR, lam, t_NK, p_NK, doubt_N), 1
    for _ in range(NEWTON_STEPS):
        for i in range(n):
            for c in range(k):
                t_NK[i, c] = p_NK[i, c]
            t_NK[i, y_N[i]] = -doubt_N[i]
        _combine(t_NK, z_NR, w_KR, lam, g_KR)
        relative, near = _distance(g_KR, w_KR, squares_R, lam, largest_mean, n, stop)
        if near and relative <= stop_relative:
            return passes
        _inverse_diagonal(z_NR, y_N, p_NK, doubt_N, lam, inverse_KR)
        passes += _conjugate_gradients(z_NR, p_NK, g_KR, inverse_KR, lam, min(0.1, np.sqrt(relative)), t_NK, step_KR)
        slope, length, noise = _product(g_KR, step_KR), 1.0, 1e-15 * abs(value)
        while True:
            for c in range(k):
                for j in range(width):
                    ahead_KR[c, j] = w_KR[c, j] + length * step_KR[c, j]
            there = _point(z_NR, y_N, ahead_KR, lam, t_NK, p_NK, doubt_N)
            passes += 1
            if there <= value + 1e-4 * length * slope + noise or length < 1e-3:
                break
            length /= 2
        for c in range(k):
            for j in range(width):
                w_KR[c, j] = ahead_KR[c, j]
        value = there
    return 0


@compiled()
def _point(z_NR, y_N, w_KR, lam, t_NK, p_NK, doubt_N):
    """f; leaves p, and 1 - p of the true class, which keeps its bits where p is near 1."""
    _scores(z_NR, w_KR, t_NK)
    value = 0.0
    for c in range(len(w_KR)):
        for j in range(w_KR.shape[1] - 1):
            value += 0.5 * lam * w_KR[c, j] ** 2
    for i in range(len(t_NK)):
        own, top, others = y_N[i], t_NK[i, 0], 0.0
        for c in range(t_NK.shape[1]):
            top = max(top, t_NK[i, c])
        for c in range(t_NK.shape[1]):
            p_NK[i, c] = np.exp(t_NK[i, c] - top)
            if c != own:
                others += p_NK[i, c]
        total = others + p_NK[i, own]
        value += np.log1p(others + (p_NK[i, own] - 1)) - (t_NK[i, own] - top)
        doubt_N[i] = others / total
        for c in range(t_NK.shape[1]):
            p_NK[i, c] /= total
    return value


@compiled(fastmath={"reassoc", "contract"})
def _scores(z_NR, w_KR, out_NK):
    for i in range(len(z_NR)):
        for c in range(len(w_KR)):
            total = 0.0
            for j in range(z_NR.shape[1]):
                total += z_NR[i, j] * w_KR[c, j]
            out_NK[i, c] = total


@compiled(fastmath={"contract"})
def _combine(t_NK, z_NR, v_KR, lam, out_KR):
    """tᵀ z + λ v, without λ in the last column."""
    k, width = v_KR.shape
    for c in range(k):
        for j in range(width - 1):
            out_KR[c, j] = lam * v_KR[c, j]
        out_KR[c, width - 1] = 0
    for i in range(len(z_NR)):
        for c in range(k):
            for j in range(width):
                out_KR[c, j] += t_NK[i, c] * z_NR[i, j]


@compiled()
def _distance(g_KR, w_KR, squares_R, lam, largest_mean, n, stop):
    """How far the solution is, as `_Fit._relative` has it, and whether no entry of the gradient is above `stop` n."""
    k, last = g_KR.shape[0], g_KR.shape[1] - 1
    size = squared = scores = missing = 0.0
    near = True
    for c in range(k):
        row = 0.0
        for j in range(last):
            size += w_KR[c, j] ** 2
            scores += w_KR[c, j] ** 2 * squares_R[j]
            row += g_KR[c, j] ** 2
        of_b = abs(g_KR[c, last])
        near &= np.sqrt(row) + of_b * largest_mean <= stop * n and of_b <= stop * n
        missing += (of_b * k / n) ** 2 / k
        squared += row + of_b**2
    if size == 0 or scores == 0:
        return np.inf, near
    return max(np.sqrt(squared / size) / lam, np.sqrt(missing / (scores / (n * k)))), near


@compiled(fastmath={"contract"})
def _inverse_diagonal(z_NR, y_N, p_NK, doubt_N, lam, out_KR):
    """Of the Hessian's diagonal."""
    k, width = out_KR.shape
    largest = 0.0
    for c in range(k):
        for j in range(width):
            out_KR[c, j] = lam if j < width - 1 else 0.0
        for i in range(len(z_NR)):
            weight = p_NK[i, c] * (doubt_N[i] if y_N[i] == c else 1 - p_NK[i, c])
            for j in range(width):
                out_KR[c, j] += weight * z_NR[i, j] ** 2
        for j in range(width):
            largest = max(largest, out_KR[c, j])
    for c in range(k):
        for j in range(width):
            out_KR[c, j] = 1 / max(out_KR[c, j], 1e-16 * largest)


@compiled(fastmath={"reassoc", "contract"})
def _product(a_KR, b_KR):
    total = 0.0
    for c in range(len(a_KR)):
        for j in range(a_KR.shape[1]):
            total += a_KR[c, j] * b_KR[c, j]
    return total


@compiled()
def _conjugate_gradients(z_NR, p_NK, g_KR, inverse_KR, lam, exactness, t_NK, x_KR):
    """x becomes -H⁻¹ g; returns how many products with H it took."""
    k, width = g_KR.shape
    q_KR, product_KR = np.empty((k, width)), np.empty((k, width))
    scaled_KR, along_KR = np.empty((k, width)), np.empty((k, width))
    for c in range(k):
        for j in range(width):
            x_KR[c, j], q_KR[c, j] = 0.0, -g_KR[c, j]
    _precondition(inverse_KR, q_KR, along_KR)
    rho = first = _product(q_KR, along_KR)
    for products in range(CG_STEPS):
        if rho <= exactness**2 * first:
            return products
        _scores(z_NR, along_KR, t_NK)
        _weigh(p_NK, t_NK)
        _combine(t_NK, z_NR, along_KR, lam, product_KR)
        curvature = _product(along_KR, product_KR)
        if not curvature > 0:
            return products
        size = rho / curvature
        for c in range(k):
            for j in range(width):
                x_KR[c, j] += size * along_KR[c, j]
                q_KR[c, j] -= size * product_KR[c, j]
        _precondition(inverse_KR, q_KR, scaled_KR)
        before, rho = rho, _product(q_KR, scaled_KR)
        for c in range(k):
            for j in range(width):
                along_KR[c, j] = scaled_KR[c, j] + rho / before * along_KR[c, j]
    return CG_STEPS


@compiled()
def _weigh(p_NK, t_NK):
    """t becomes (diag p - p pᵀ) t, row by row, by differences from that of the likeliest class: where its p is near 1,
    all that counts is what the others differ from it."""
    for i in range(len(t_NK)):
        likeliest = 0
        for c in range(t_NK.shape[1]):
            if p_NK[i, c] > p_NK[i, likeliest]:
                likeliest = c
        level, mean = t_NK[i, likeliest], 0.0
        for c in range(t_NK.shape[1]):
            t_NK[i, c] -= level
            mean += p_NK[i, c] * t_NK[i, c]
        for c in range(t_NK.shape[1]):
            t_NK[i, c] = p_NK[i, c] * (t_NK[i, c] - mean)


@compiled()
def _precondition(inverse_KR, r_KR, out_KR):
    """The inverse of the diagonal, among what is orthogonal to 1 over classes."""
    for j in range(r_KR.shape[1]):
        total = weight = 0.0
        for c in range(len(r_KR)):
            out_KR[c, j] = r_KR[c, j] * inverse_KR[c, j]
            total += out_KR[c, j]
            weight += inverse_KR[c, j]
        for c in range(len(r_KR)):
            out_KR[c, j] -= inverse_KR[c, j] * (total / weight)
