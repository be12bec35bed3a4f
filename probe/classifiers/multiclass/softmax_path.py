"""Multinomial logistic regression with an L2 penalty, exactly, for many strengths of it at once.

For rows x_i of class y_i (centred by the train mean, which only moves b), with p_i = softmax(W x_i + b):

    f(W, b) = sum_i -log p_i[y_i] + λ/2 |W|²,   λ = 1/C
    ∇_W f = (P - Y)ᵀ X + λW,   ∇_b f = (P - Y)ᵀ 1
    ∇²f   = sum_i (diag p_i - p_i p_iᵀ) ⊗ x_i x_iᵀ + λI

Span. A gradient is a combination of rows, so W stays in their span: with the eigenvectors U of XᵀX (of XXᵀ where
n < d) and Z = XU the problem has r = rank X ≤ min(n - 1, d) columns, and |W| is unchanged. The columns of Z are
orthogonal over the rows, so where the weights of the Hessian are spread evenly its diagonal is nearly all of it. Where
n < d, U is made orthonormal to the last bits, and Z in float64 stands for the rows in all passes but the last.

Model. A row weighs much in the Hessian only for the few classes between which it is undecided. Pairs (i, c) with
a weight p_ic (1 - p_ic) well above the mean are kept as they are, a sparse matrix; the weights of all others are spread
over many rows, so their part is replaced by its diagonal. While C is small no pair is kept, and the model is solved by
one division; where C is large nearly all rows are decided, and few pairs are left. More are kept where steps gain
little: a few rows on the wrong side have the weight of thousands. Decided rows have p so near 1 that 1 - p is taken
from the p of the other classes. The bound ½(I - 11ᵀ/k) ⊗ XᵀX of Böhning (1992) has the same eigenvectors, but is looser
by k/2 at the start of the path.

Steps. The model's system is solved by conjugate gradients in float32, with the model's diagonal as preconditioner,
restricted to what is orthogonal to 1 over classes, where the solution is. That is the initial matrix of L-BFGS
(Nocedal and Wright, Numerical Optimization, 7.4), which corrects what the model misses; its pairs serve for the next
C too, since f's only change is known: y += Δλ s. The path goes from small to large C, and each start is the
polynomial in log C through the last solutions.

Few rows. Where a pass has at most FEW products, softmax_newton.py solves each C in one compiled call, in float64; what
it does not reach is left to the steps above.

Certificate. The largest entry of ∇f over n, in float64, on the rows as they were given.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, cached_property, partial
from math import prod
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64
from threadpoolctl import ThreadpoolController

from bb.probe.classifiers.multiclass.softmax_kernels import add_diagonal, add_product
from bb.probe.classifiers.multiclass.softmax_newton import newton
from bb.store.errors import BBError

LARGEST_GRADIENT = 1e-6  # over n: a fit above it is refused
STOP = 5e-7  # where a fit ends, and
STOP_RELATIVE = 1e-4  # the gradient's norm over that of its penalty's part: they cancel at the solution
BLOCK = 1024  # rows in a pass
KEPT = 3.0  # times the mean weight of a pair: above it the model keeps the pair itself
ORDER = 5  # solutions behind a start
PAIRS = 10  # of L-BFGS
CG_STEPS = 200
CG_STOP = 0.05
WORTH_A_THREAD = 1 << 20  # products
PASSES = 200
SMALLEST = 1e-9  # C, behind which nothing is solved on the way to a larger one
LEAST_STEP = np.log(1.2)  # in log C: not divided further
MOST_FAILURES = 8  # of steps that are too far, for one C that was asked for
FEW = 1 << 19  # products of a pass, up to which the compiled steps of softmax_newton.py are faster
STALLED = 3  # steps without a smaller gradient before float64 takes over


@dataclass(frozen=True, eq=False)
class Solution:
    """One fit. decision = X @ coef.T + intercept; both sum to 0 over classes.

    w            (k, r + 1): coefficients of rotated rows, and of the one appended to them
    certificate  at least the largest entry of the gradient, over n, in float64
    passes       over the rows that it took
    """

    C: float
    path: "SoftmaxPath"
    w: Float64[np.ndarray, "k width"]
    certificate: float
    passes: int

    @cached_property
    def coef(self) -> Float64[np.ndarray, "k d"]:
        return self.w[:, :-1] @ self.path.basis.T

    @cached_property
    def intercept(self) -> Float64[np.ndarray, " k"]:
        b = self.w[:, -1] - self.coef @ self.path.mean
        return b - b.mean()

    def certified(self) -> float:
        """The largest entry of the gradient over n, on the rows as given. Errors: BBError above LARGEST_GRADIENT."""
        fit = _Fit(self.path, None, self.path.penalty / self.C)
        return refuse_above(fit.largest(fit.pass_given(self.w)), self.C, len(self.path.x))


def refuse_above(certificate: float, C: float, n: int) -> float:
    """The certificate. Errors: BBError where the fit doesn't count as exact."""
    if not certificate <= LARGEST_GRADIENT:
        raise BBError(
            f"logistic at C = {C:g}: the largest gradient entry is {certificate:.1e} of n = {n}, and a "
            f"fit counts as exact up to {LARGEST_GRADIENT:g}. Use smaller C, or preprocess by l2 or standard."
        )
    return certificate


class _Model(NamedTuple):
    """An approximation of the Hessian: kept pairs, sorted by row, and the diagonal of all the rest."""

    start: np.ndarray
    classes: np.ndarray
    p: np.ndarray
    other: np.ndarray  # the sum of p of a row's other pairs
    rest_KD: np.ndarray
    inverse_KD: np.ndarray  # of the whole diagonal


class _Point(NamedTuple):
    """f at some W: its value, and its gradient in the rotated coordinates."""

    value: float
    gradient: np.ndarray


class SoftmaxPath:
    """Rows made ready for fits at any C.

    x        (n, d) float32; y (n,) classes 0 … k-1, each with a row
    penalty  what multiplies |W|²/(2C): 2 where two classes stand for one binary problem, as scikit-learn has it
    """

    def __init__(self, x: Float32[np.ndarray, "n d"], y: Int64[np.ndarray, " n"], k: int, penalty: float = 1.0) -> None:
        self.x, self.y, self.k, self.penalty = x, y, k, penalty
        self.mean = x.mean(axis=0, dtype=np.float64)
        self.few = len(x) * min(x.shape) * k <= FEW
        self.basis, self.squares, z = _rotated(x, self.mean, self.few)
        self.z = z.astype(np.float32, copy=False)
        self.exact = z if z.dtype == np.float64 else None  # in place of the rows, where that is less
        self.blas = _blas()
        self.threads = max((pool["num_threads"] for pool in self.blas.info()), default=1)

    def project(self, x: Float32[np.ndarray, "m d"]) -> Float64[np.ndarray, "m width"]:
        """Other rows, rotated as these are: the scores of a solution are project(x) @ w.T."""
        return np.column_stack([(x - self.mean) @ self.basis, np.ones(len(x))])

    def solve(self, Cs: Sequence[float]) -> Iterator[Solution]:
        """The solutions for ascending C. Errors: BBError where the certificate is above LARGEST_GRADIENT."""
        with ThreadPoolExecutor(self.threads) as pool:
            fit = _Fit(self, pool)
            for C in Cs:
                yield fit.reach(float(C))


class _Fit:
    """The state that goes along the path: W is (k, r + 1), its last column b."""

    def __init__(self, path: SoftmaxPath, pool: ThreadPoolExecutor | None, lam: float = 0.0) -> None:
        self.path, self.pool, self.z = path, pool, path.z
        n, width = path.z.shape
        self.p = np.empty((n, path.k), np.float32)
        self.doubt = np.empty(n, np.float32)  # 1 - p of the true class
        self.penalised = np.ones(width, np.float32)
        self.penalised[-1] = 0
        self.lam, self.passes = lam, 0
        self.solved: list[tuple[float, np.ndarray]] = []
        self.pairs: list[tuple[np.ndarray, np.ndarray]] = []
        self.rows = np.linspace(0, n, path.threads + 1).astype(int)  # where each thread's begin

    def reach(self, C: float) -> Solution:
        """The solution at C, by way of smaller C where one step from the last solution is too far.

        Errors: BBError where the certificate is above LARGEST_GRADIENT however near the last solution is.
        """
        ahead: list[float] = [C]
        failures: list[BBError] = []
        while ahead:
            solved, end = self.solved, np.log(ahead[-1])
            try:
                with np.errstate(over="ignore", invalid="ignore"):  # of a step that is too far
                    solution = self.at(ahead[-1])
                ahead.pop()
            except BBError as error:
                failures.append(error)
                begin = solved[-1][0] if solved else np.log(SMALLEST)
                if end - begin < LEAST_STEP or len(failures) == MOST_FAILURES:
                    raise failures[0] from None
                self.solved, self.pairs = solved, []
                ahead.append(float(np.exp((begin + end) / 2)))
        return solution

    def at(self, C: float) -> Solution:
        """First on the float32 rows; then in float64 on the rows as given, until the certificate holds there too."""
        lam = self.path.penalty / C
        for s, y in self.pairs:
            y += np.float32(lam - self.lam) * self.penalised * s
        self.lam = lam
        if self.path.few and (solution := self._newton(C)):
            return solution
        w, best, stalled, exact, kept, self.passes = self._start(np.log(C)), np.inf, 0, False, KEPT, 0
        point = self._pass(w, exact)
        while self.passes < PASSES:
            relative = self._relative(w, point, exact)
            done = relative <= STOP_RELATIVE and (self._bound(point) <= STOP or self.largest(point) <= STOP)
            stalled = 0 if relative < 0.9 * best else stalled + 1
            kept /= 8 if stalled > 1 else 1
            best = min(best, relative)
            if (done and exact) or stalled > 2 * STALLED:
                break
            if not exact and (done or stalled >= STALLED):
                exact, stalled, best = True, 0, np.inf
                point = self._pass(w, exact)
            else:
                model = self._model(kept)
                # BLAS's threads keep spinning after each dot product, on the cores that the model's threads need.
                with self.path.blas.limit(limits=1) if self.path.threads > 1 else nullcontext():
                    step = self._step(point.gradient, model)
                w, point = self._search(w, step, point, exact)
        self.solved = [*self.solved, (np.log(C), w)][-ORDER:]
        certificate = self._bound(point) if exact else np.inf
        if exact and certificate > LARGEST_GRADIENT:
            certificate = self.largest(point)
        refuse_above(certificate, C, len(self.z))
        return Solution(C, self.path, w, certificate, self.passes)

    def _newton(self, C: float) -> Solution | None:
        """The solution of few rows; None where float64 does not show that it is one."""
        path, w = self.path, self._start(np.log(C))
        largest = float(np.abs(path.mean).max())
        passes = newton(path.exact, path.y, path.squares, w, self.lam, largest, STOP, STOP_RELATIVE)
        if not passes:
            return None
        self.solved = [*self.solved, (np.log(C), w)][-ORDER:]
        return Solution(C, path, w, STOP, passes)

    def _start(self, log_C: float) -> np.ndarray:
        """Lagrange's polynomial through the last solutions; zero at first."""
        w = np.zeros((self.path.k, self.z.shape[1]))
        for at, solution in self.solved:
            others = [other for other, _ in self.solved if other != at]
            w += prod([(log_C - other) / (at - other) for other in others]) * solution
        return w

    def largest(self, point: _Point) -> float:
        """The largest entry of the gradient over n, in the features' own coordinates."""
        of_b = point.gradient[:, -1]
        of_coef = point.gradient[:, :-1] @ self.path.basis.T + np.outer(of_b, self.path.mean)
        return float(max(np.abs(of_coef).max(), np.abs(of_b).max())) / len(self.z)

    def _bound(self, point: _Point) -> float:
        """At least `_largest`, at less cost: an entry is at most its row's norm."""
        of_b = np.abs(point.gradient[:, -1])
        of_coef = np.linalg.norm(point.gradient[:, :-1], axis=1) + of_b * np.abs(self.path.mean).max()
        return float(max(of_coef.max(), of_b.max())) / len(self.z)

    def _pass(self, w: np.ndarray, exact: bool) -> _Point:
        """f and its gradient at w, in float32 or, exact, in float64; leaves p in self.p."""
        rows = self.path.exact if exact else self.z
        if rows is None:
            return self.pass_given(w)
        value, of_w, _ = self._over_blocks(rows, w, np.zeros(len(w)))
        return self._point(value, of_w + self.lam * self.penalised * w, w)

    def pass_given(self, w: np.ndarray) -> _Point:
        """The same in float64 on the rows as given."""
        coef = w[:, :-1] @ self.path.basis.T
        b = w[:, -1] - coef @ self.path.mean
        value, of_coef, of_b = self._over_blocks(self.path.x, coef, b)
        of_coef += self.lam * coef
        gradient = np.column_stack([(of_coef - np.outer(of_b, self.path.mean)) @ self.path.basis, of_b])
        return self._point(value, gradient, w)

    def _point(self, value: float, gradient: np.ndarray, w: np.ndarray) -> _Point:
        return _Point(value + 0.5 * self.lam * float((w[:, :-1] ** 2).sum()), gradient)

    def _over_blocks(self, rows: np.ndarray, coef: np.ndarray, b: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """The loss and its gradients for coefficients and intercepts; in float32 where rows other than x are."""
        dtype = np.float64 if rows is self.path.x else rows.dtype
        self.passes += 1
        coef_DK, value = np.ascontiguousarray(coef.T, dtype), 0.0
        of_coef, of_b = np.zeros(coef.shape), np.zeros(len(b))
        converted = np.empty((min(BLOCK, len(rows)), rows.shape[1]), dtype) if dtype != rows.dtype else None
        for start in range(0, len(rows), BLOCK):
            x, y = rows[start : start + BLOCK], self.path.y[start : start + BLOCK]
            if converted is not None:  # always in the same place: two blocks of float64 would take as much as all of p
                converted[: len(x)] = x
                x = converted[: len(x)]
            scores: np.ndarray = x @ coef_DK
            if rows is self.path.x:
                scores += b
            residual, p_own, loss = _softmax(scores, y)
            own = np.arange(len(y)), y
            self.doubt[start : start + BLOCK] = -residual[own]
            self.p[start : start + BLOCK] = residual
            self.p[start : start + BLOCK][own] = p_own
            of_coef += residual.T @ x
            of_b += residual.sum(axis=0)
            value += loss
        return value, of_coef, of_b

    def _relative(self, w: np.ndarray, point: _Point, exact: bool) -> float:
        """The gradient's norm over that of λW; at last also what is missing to b, over the size of W x.

        Where C is small W x is far smaller than 1, and b decides unless it is as close.
        """
        size = self.lam * float(np.linalg.norm(w[:, :-1]))
        if not size:
            return np.inf
        relative = float(np.linalg.norm(point.gradient)) / size
        if not exact:
            return relative
        n, k = self.p.shape
        scores = np.sqrt((w[:, :-1] ** 2 @ self.path.squares).sum() / (n * k))
        missing = point.gradient[:, -1] * k / n  # by the curvature n/k (1 - 1/k) of equal probabilities
        return max(relative, float(np.sqrt((missing**2).mean()) / scores))

    def _model(self, kept_from: float) -> _Model:
        """The model at the last pass's probabilities; pairs above `kept_from` times the mean weight are kept."""
        k, n = self.path.k, len(self.z)
        above = kept_from * sum(float(weight.sum(dtype=np.float64)) for *_, weight in self._weights()) / self.p.size
        rest = np.zeros((k, self.z.shape[1]), np.float32)
        rest += np.float32(self.lam) * self.penalised
        counts, other = np.zeros(n + 1, np.int64), np.empty(n, np.float32)
        classes, kept, weights = [], [], []
        for start, p, weight in self._weights():
            z = self.z[start : start + BLOCK]
            keep = weight > above
            row, of_class = np.nonzero(keep)
            counts[start + 1 : start + 1 + len(p)] = keep.sum(axis=1)
            other[start : start + BLOCK] = np.where(keep, 0, p).sum(axis=1)
            classes.append(of_class.astype(np.int32))
            kept.append(p[row, of_class])
            weights.append(weight[row, of_class])
            weight[keep] = 0
            rest += weight.T @ (z * z)
        start_N, classes_P = np.cumsum(counts), np.concatenate(classes)
        if self.path.threads > 1:
            self.rows = np.searchsorted(start_N, np.linspace(0, start_N[-1], self.path.threads + 1))
            self.rows[0], self.rows[-1] = 0, n
        whole = rest + self._over_rows(add_diagonal, start_N, classes_P, np.concatenate(weights))
        inverse = 1 / np.maximum(whole, np.finfo(np.float32).eps ** 2 * whole.max())
        return _Model(start_N, classes_P, np.concatenate(kept), other, rest, inverse)

    def _weights(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Where each block of rows begins, its p and p (1 - p)."""
        for start in range(0, len(self.z), BLOCK):
            p, y = self.p[start : start + BLOCK], self.path.y[start : start + BLOCK]
            weight = p * (1 - p)
            own = np.arange(len(y)), y
            weight[own] = p[own] * self.doubt[start : start + BLOCK]
            yield start, p, weight

    def _over_rows(self, kernel: Any, start: np.ndarray, *operands: np.ndarray) -> np.ndarray:
        """The sum of what a kernel adds for all rows, on all threads where there is work for them."""
        part = partial(self._part, kernel, start, operands)
        if self.path.threads == 1 or start[-1] * self.z.shape[1] < WORTH_A_THREAD:
            return part(0, len(self.z))
        assert self.pool is not None
        total, *others = self.pool.map(part, self.rows[:-1], self.rows[1:])
        for more in others:
            total += more
        return total

    def _part(
        self, kernel: Any, start: np.ndarray, operands: tuple[np.ndarray, ...], first: int, last: int
    ) -> np.ndarray:
        total = np.zeros((self.path.k, self.z.shape[1]), np.float32)
        kernel(self.z, start, *operands, total, first, last)
        return total

    def _step(self, gradient: np.ndarray, model: _Model) -> np.ndarray:
        """-B⁻¹ gradient by L-BFGS's two loops, B's start being the model."""
        q = -gradient.astype(np.float32)
        alphas = []
        for s, y in reversed(self.pairs):
            alphas.append(np.float32(np.vdot(s, q) / np.vdot(s, y)))
            q -= alphas[-1] * y
        step = self._solve_model(q, model)
        for (s, y), alpha in zip(self.pairs, reversed(alphas), strict=True):
            step += (alpha - np.float32(np.vdot(y, step) / np.vdot(s, y))) * s
        return step - step.mean(axis=0)

    def _solve_model(self, q: np.ndarray, model: _Model) -> np.ndarray:
        """Conjugate gradients; the preconditioner is the inverse of the diagonal among what is orthogonal to 1."""
        precondition = partial(_preconditioned, model.inverse_KD, model.inverse_KD.sum(axis=0))
        pairs = len(model.p)
        x, direction = np.zeros_like(q), precondition(q)
        rho = first = float(np.vdot(q, direction))
        for _ in range(CG_STEPS):
            if rho <= CG_STOP**2 * first:
                break
            product = model.rest_KD * direction
            if pairs:
                product += self._over_rows(add_product, model.start, model.classes, model.p, model.other, direction)
            if not (curvature := float(np.vdot(direction, product))) > 0:  # too small for float32: separated rows
                break
            size = np.float32(rho / curvature)
            x += size * direction
            q -= size * product
            scaled = precondition(q)
            before, rho = rho, float(np.vdot(q, scaled))
            direction *= np.float32(rho / before)
            direction += scaled
        return x

    def _search(self, w: np.ndarray, step: np.ndarray, point: _Point, exact: bool) -> tuple[np.ndarray, _Point]:
        """Halves the step until f falls as Armijo asks, up to rounding; the pair that it gives joins the others."""
        slope = float(np.vdot(point.gradient, step))
        noise = 4 * np.finfo(np.float64 if exact else np.float32).eps * abs(point.value)
        length = 1.0
        while True:
            ahead = w + length * step
            there = self._pass(ahead, exact)
            if there.value <= point.value + 1e-4 * length * slope + noise or length < 1e-3:
                break
            length /= 2
        s, y = (length * step).astype(np.float32), (there.gradient - point.gradient).astype(np.float32)
        if float(np.vdot(s, y)) > 0:
            self.pairs = [*self.pairs, (s, y)][-PAIRS:]
        return ahead, there


@cache
def _blas() -> ThreadpoolController:
    """Found once: that takes as long as a path of few rows."""
    return ThreadpoolController().select(user_api="blas")


def _preconditioned(inverse: np.ndarray, sums: np.ndarray, r: np.ndarray) -> np.ndarray:
    scaled = r * inverse
    scaled -= inverse * (scaled.sum(axis=0) / sums)
    return scaled


def _softmax(f: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """P - Y of scores, in their place, p of the true classes, and the sum of -log p of these.

    Where p is near 1 its distance from 1 is the sum of the others, which has all its bits.
    """
    own = np.arange(len(y)), y
    f -= f.max(axis=1, keepdims=True)
    of_own = f[own]
    np.exp(f, out=f)
    e_own, f[own] = f[own], 0
    others = f.sum(axis=1)
    total = others + e_own
    loss = np.log1p(others + (e_own - 1)).sum(dtype=np.float64) - of_own.sum(dtype=np.float64)
    f /= total[:, None]
    f[own] = -others / total
    return f, e_own / total, float(loss)


def _rotated(
    x: Float32[np.ndarray, "n d"], mean: Float64[np.ndarray, " d"], few: bool
) -> tuple[Float64[np.ndarray, "d r"], Float64[np.ndarray, " r"], Float[np.ndarray, "n r+1"]]:
    """An orthonormal basis of the centred rows' span, the sum of squares along each, and coordinates, a one appended.

    The coordinates are float64 where n < d or rows are few, else float32.
    """
    n, d = x.shape
    basis, values = _basis(x, mean)
    z = np.ones((n, len(values) + 1), np.float64 if n < d or few else np.float32)
    for start in range(0, n, BLOCK):
        z[start : start + BLOCK, :-1] = (x[start : start + BLOCK] - mean) @ basis
    return basis, values, z


def _basis(
    x: Float32[np.ndarray, "n d"], mean: Float64[np.ndarray, " d"]
) -> tuple[Float64[np.ndarray, "d r"], Float64[np.ndarray, " r"]]:
    n, d = x.shape
    if n < d:
        centred = x - mean
        gram = centred @ centred.T
    else:
        gram = np.zeros((d, d))
        for start in range(0, n, BLOCK):
            centred = x[start : start + BLOCK] - mean
            gram += centred.T @ centred
    values, vectors = np.linalg.eigh(gram)
    real = values > values[-1] * np.finfo(np.float64).eps * max(n, d)
    values, vectors = values[real], vectors[:, real]
    basis = centred.T @ (vectors / np.sqrt(values)) if n < d else vectors
    for _ in range(2 if n < d else 0):  # Newton-Schulz: an error of at most 1/d becomes its square, and again
        basis = 1.5 * basis - 0.5 * basis @ (basis.T @ basis)
    # Columns of zeros, so that with b's each row of z begins where a vector register does.
    spare = -(len(values) + 1) % 16
    return np.pad(basis, ((0, 0), (0, spare))), np.pad(values, (0, spare))
