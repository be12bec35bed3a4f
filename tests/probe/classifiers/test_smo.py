"""The compiled solver alone, against libsvm to the bit."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from bb.probe.classifiers import smo

COSTS = (1e-3, 3e-2, 0.5, 10.0)
KINDS = {"linear": smo.LINEAR, "poly": smo.POLY, "rbf": smo.RBF, "sigmoid": smo.SIGMOID}


def rows(n: int, d: int, seed: int = 0, signal: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Standardised rows grouped by class, a third of them positive, and ±1 labels of overlapping classes."""
    rng = np.random.default_rng(seed)
    y = np.where(np.arange(n) < n // 3, 1, -1)
    x = rng.normal(size=(n, d)) + signal * np.outer(y, rng.normal(size=d)) / np.sqrt(d) * 3
    return StandardScaler().fit_transform(x.astype(np.float32)).astype(np.float64), y


def fill(kind: int, gamma: float, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = z.shape[0]
    padded = -(-n // smo.LANES) * smo.LANES
    kernel, diagonal = np.zeros((n, padded), np.float32), np.zeros(padded)
    dots = smo.gram(z)
    smo.fill_kernel(kind, gamma, dots, np.diag(dots).copy(), kernel, diagonal, np.empty(n))
    return kernel, diagonal


def solve(kernel: np.ndarray, diagonal: np.ndarray, n_positive: int, cost: float, tol: float = 1e-3):
    space = smo.make_space(kernel.shape[0], np.empty(0))
    rho, n_steps, peak_positive, peak_negative = smo.solve(kernel, diagonal, n_positive, cost, cost, tol, space)
    return space.a[: kernel.shape[0]], rho, n_steps, max(peak_positive, peak_negative)


@pytest.mark.parametrize(("n", "d"), [(9, 64), (40, 1024), (230, 200)])
@pytest.mark.parametrize("name", KINDS)
def test_solver_equals_libsvm_on_a_precomputed_kernel(name: str, n: int, d: int) -> None:
    z, y = rows(n, d)
    kernel, diagonal = fill(KINDS[name], 1e-3, z)
    # libsvm rounds a precomputed kernel to float32 itself, and takes the diagonal unrounded, as `solve` does.
    precomputed = kernel[:, :n].astype(np.float64)
    np.fill_diagonal(precomputed, diagonal[:n])
    for cost in COSTS:
        alpha, rho, n_steps, _ = solve(kernel, diagonal, int((y > 0).sum()), cost)
        oracle = SVC(kernel="precomputed", C=cost).fit(precomputed, -y)
        np.testing.assert_array_equal(np.flatnonzero(alpha), oracle.support_)
        np.testing.assert_array_equal((-y * alpha)[alpha > 0], oracle.dual_coef_[0])
        np.testing.assert_array_equal(rho, oracle.intercept_[0])
        assert n_steps == oracle.n_iter_[0]


@pytest.mark.parametrize("name", KINDS)
def test_kernels_equal_libsvm_through_the_solution(name: str) -> None:
    z, y = rows(120, 512, seed=1)
    for gamma in (1e-4, 1e-3, 0.02):
        kernel, diagonal = fill(KINDS[name], gamma, z)
        alpha, rho, n_steps, _ = solve(kernel, diagonal, int((y > 0).sum()), 5.0)
        oracle = SVC(kernel=name, gamma=gamma, C=5.0).fit(z, -y)
        np.testing.assert_array_equal((-y * alpha)[alpha > 0], oracle.dual_coef_[0])
        np.testing.assert_array_equal(rho, oracle.intercept_[0])
        assert n_steps == oracle.n_iter_[0]


def test_shrinking_and_reopening_are_exercised() -> None:
    """Long runs on hard problems, where libsvm shrinks, rebuilds the gradient and swaps rows many times."""
    z, y = rows(400, 3, seed=2, signal=0.05)
    kernel, diagonal = fill(smo.RBF, 0.3, z)
    for cost in (10.0, 1e4):
        alpha, rho, n_steps, _ = solve(kernel, diagonal, int((y > 0).sum()), cost)
        assert n_steps > 2 * len(y)
        oracle = SVC(kernel="rbf", gamma=0.3, C=cost).fit(z, -y)
        np.testing.assert_array_equal((-y * alpha)[alpha > 0], oracle.dual_coef_[0])
        assert (rho, n_steps) == (oracle.intercept_[0], oracle.n_iter_[0])


def test_a_linear_solution_holds_for_every_cost_above_its_peak_and_no_other() -> None:
    z, y = rows(60, 300, seed=3)
    kernel, diagonal = fill(smo.LINEAR, 1.0, z)
    n_positive = int((y > 0).sum())
    alpha, rho, n_steps, peak = solve(kernel, diagonal, n_positive, 10.0)
    assert 0 < peak < 10.0
    for cost in (np.nextafter(peak, 1), peak * 1.01, 5.0):
        again, again_rho, again_steps, again_peak = solve(kernel, diagonal, n_positive, cost)
        np.testing.assert_array_equal(again, alpha)
        assert (again_rho, again_steps, again_peak) == (rho, n_steps, peak)
    below = np.nextafter(peak, 0)
    clipped, *_ = solve(kernel, diagonal, n_positive, below)
    assert clipped.max() <= below
    for cost in (below, peak, np.nextafter(peak, 1)):
        alpha, rho, n_steps, _ = solve(kernel, diagonal, n_positive, cost)
        oracle = SVC(kernel="linear", C=cost).fit(z, -y)
        np.testing.assert_array_equal((-y * alpha)[alpha > 0], oracle.dual_coef_[0])
        assert (rho, n_steps) == (oracle.intercept_[0], oracle.n_iter_[0])


@pytest.mark.parametrize("shape", [(2, 1), (3, 2), (8, 1024), (9, 17), (50, 333), (220, 1024), (1000, 3)])
def test_scaling_equals_standard_scaler(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(4)
    x = (rng.normal(size=shape) * np.exp(3 * rng.normal(size=shape[1])) + rng.normal(size=shape[1]) * 100).astype(
        np.float32
    )
    x[:, 0] = 0.1
    chosen = np.sort(rng.choice(shape[0], shape[0] - shape[0] // 5, replace=False))
    oracle = StandardScaler().fit(x[chosen])
    mean, scale = smo.moments(x, chosen)
    np.testing.assert_array_equal(mean, oracle.mean_.astype(np.float32))
    np.testing.assert_array_equal(scale, oracle.scale_.astype(np.float32))
    np.testing.assert_array_equal(
        smo.standardise(x, chosen[::-1].copy(), mean, scale), oracle.transform(x[chosen[::-1]])
    )


def test_error_of_exp_and_tanh_is_within_the_slack() -> None:
    x = np.concatenate([-np.geomspace(1e-12, 100, 100_001), np.geomspace(1e-12, 5, 100_001), [0.0]])
    zeros, out = np.zeros((1, x.size)), np.empty(x.size)
    smo._row(smo.RBF, 1.0, zeros, 0, x.size, 0.0, -x, out)
    assert np.max(np.abs(out / np.exp(x) - 1)) < smo._SLACK / 3
    smo._row(smo.SIGMOID, 1.0, x[None], 0, x.size, 0.0, x, out)
    np.testing.assert_array_less(np.abs(out - np.tanh(x)), smo._SLACK / 3 * np.abs(np.tanh(x)) + 1e-300)
    smo._row(smo.SIGMOID, 1.0, np.array([[-1e300, 1e300]]), 0, 2, 0.0, x, out)
    np.testing.assert_array_equal(out[:2], [-1, 1])


def test_rounded_kernels_are_those_of_libm() -> None:
    """With a million values, some near a rounding boundary, the fast functions leave no trace."""
    rng = np.random.default_rng(5)
    dots = rng.normal(size=(1000, 1000)) * 300
    dots = dots + dots.T
    squares = np.abs(rng.normal(size=1000)) * 1000 + 2000
    np.fill_diagonal(dots, squares)
    kernel, diagonal = np.zeros((1000, 1008), np.float32), np.zeros(1008)
    for kind in (smo.RBF, smo.SIGMOID):
        smo.fill_kernel(kind, 7e-4, dots, squares, kernel, diagonal, np.empty(1000))
        for i, t in rng.integers(0, 1000, (20_000, 2)):
            assert kernel[i, t] == np.float32(smo.kernel_value(kind, 7e-4, dots[i, t], squares[i], squares[t]))
