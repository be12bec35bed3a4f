"""How fast the exact search is against scikit-learn's, and how far from what the machine could do.

    python scripts/bench/svm.py [--json FILE] [--budget SECONDS] [--quick]

Both sides run in this one process, in turns, so that whatever else the machine does strikes both: ours on all
tasks with two threads, RandomizedSearchCV with n_jobs=2 on as many of the same tasks as fit in the budget.
Each side is timed from features to predicted labels. Tasks are synthetic, of NeWT's shape: two classes, 100
to 200 training images, weak to strong class signals in a decaying spectrum, through the biobench protocol's
L2, centre, L2."""

import argparse
import json
import multiprocessing
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from bb.probe.classifiers import engine, smo, svm, svm_fit
from bb.probe.classifiers.exact import Exact
from bb.probe.classifiers.protocol import GridLinearSVC

THREADS = 2
TASKS = 164
GRID_TASKS = 16
QUICK = {"budget": 1.0, "tasks": 4, "dim": 64}
SIZES = {"n10": 10, "full": None}


@dataclass(frozen=True)
class Problem:
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray


def newt_like(seed: int, d: int, n_train: int | None = None, n_full: tuple[int, int] = (100, 200)) -> Problem:
    """A task's first n_train images (class 0 first, as the protocol orders them), or all; as many test images
    as all."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(n_full[0] // 2, n_full[1] // 2 + 1)) * 2
    y = np.tile(np.repeat([0, 1], n // 2), 2)
    spectrum = (1 + np.arange(d)) ** -0.4
    direction = rng.normal(size=d) * spectrum
    signal = rng.uniform(0.0, 0.09) * np.linalg.norm(spectrum) / np.linalg.norm(direction)
    x = rng.normal(size=(2 * n, d)) * spectrum + np.outer(2 * y - 1, direction) * signal
    chosen = np.arange(n)
    if n_train is not None:
        chosen = np.concatenate([np.arange(n_train // 2), n // 2 + np.arange(n_train - n_train // 2)])
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x -= x[chosen].mean(axis=0)
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return Problem(x[chosen], y[chosen], x[n:])


def ours(problems: list[Problem], threads: int = THREADS) -> tuple[svm.RandomSearchSVC, list[np.ndarray]]:
    search = svm.RandomSearchSVC(n_threads=threads).fit([(p.x_train, p.y_train) for p in problems])
    return search, search.predict([p.x_test for p in problems])


def theirs(problem: Problem):
    from scipy.stats import loguniform
    from sklearn.model_selection import RandomizedSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    grid = {
        "svc__C": loguniform(1e-3, 1e1),
        "svc__kernel": ["rbf", "linear", "sigmoid", "poly"],
        "svc__gamma": loguniform(1e-4, 1e-3),
    }
    search = RandomizedSearchCV(make_pipeline(StandardScaler(), SVC()), grid, n_iter=100, n_jobs=2, random_state=42)
    return search.fit(problem.x_train, problem.y_train), search.predict(problem.x_test)


def seconds(call: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def compare(name: str, n_train: int | None, n_tasks: int, d: int, budget: float) -> dict[str, float]:
    """Both sides in turns until the budget is spent; seconds a task, their ratio, and what differed."""
    problems = [newt_like(seed, d, n_train) for seed in range(n_tasks)]
    ours(problems[:2])
    theirs(problems[0])
    our_seconds, their_seconds, counts = [], [], {"predictions": 0, "fold_scores": 0, "choices": 0}
    start, i = time.perf_counter(), 0
    while i < n_tasks and time.perf_counter() - start < budget:
        spent, (search, predicted) = seconds(lambda: ours(problems))
        our_seconds.append(spent)
        turn = 0.0
        while i < n_tasks and turn < max(spent, budget / 8):
            spent, (their_search, their_predicted) = seconds(lambda i=i: theirs(problems[i]))
            their_seconds.append(spent)
            turn += spent
            result = search.results_[i]
            scores = np.stack([their_search.cv_results_[f"split{f}_test_score"] for f in range(5)], axis=1)
            counts["predictions"] += int((predicted[i] != their_predicted).sum())
            counts["fold_scores"] += int((result.scores.fold_scores != scores).sum())
            counts["choices"] += int(result.scores.best_index != their_search.best_index_)
            i += 1
    a_task, their_task = float(np.mean(our_seconds)) / n_tasks, float(np.mean(their_seconds))
    return {
        f"ratio_{name}": their_task / a_task,
        f"ours_ms_a_task_{name}": 1e3 * a_task,
        f"theirs_ms_a_task_{name}": 1e3 * their_task,
        f"rounds_{name}": len(our_seconds),
        f"tasks_theirs_{name}": i,
        f"rows_{name}": float(np.mean([p.y_train.size for p in problems])),
        f"accuracy_{name}": float(np.mean([r.best_score for r in search.results_])),
        f"steps_a_fit_{name}": float(np.mean([r.scores.fold_n_iter.mean() for r in search.results_])),
        f"shared_of_500_fits_{name}": float(np.mean([r.scores.n_shared for r in search.results_])),
        **{f"differing_{what}_{name}": count for what, count in counts.items()},
    }


def compare_grid(name: str, n_train: int | None, n_tasks: int, d: int) -> dict[str, float]:
    """newt2021's grid over LinearSVC: ours on two threads against GridSearchCV with n_jobs=2, on a few tasks."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import LinearSVC

    classifier = GridLinearSVC()
    grid = GridSearchCV(
        LinearSVC(dual=False, tol=1e-5, random_state=0, max_iter=1000), {"C": list(classifier.C)}, cv=3, n_jobs=2
    )
    shapes = [newt_like(seed, d, n_train) for seed in range(n_tasks)]
    problems = [engine.Problem(str(i), p.x_train, p.y_train, p.x_test) for i, p in enumerate(shapes)]
    grid.fit(shapes[0].x_train, shapes[0].y_train)  # which starts its workers
    our_seconds, outcomes = seconds(lambda: {o.task: o for o in Exact().solve(problems, classifier, jobs=THREADS)})
    their_seconds, predicted = seconds(lambda: [grid.fit(p.x_train, p.y_train).predict(p.x_test) for p in shapes])
    return {
        f"ratio_newt2021_{name}": their_seconds / our_seconds,
        f"ours_ms_a_task_newt2021_{name}": 1e3 * our_seconds / n_tasks,
        f"theirs_ms_a_task_newt2021_{name}": 1e3 * their_seconds / n_tasks,
        f"differing_predictions_newt2021_{name}": sum(
            int((outcomes[str(i)].y_pred != theirs).sum()) for i, theirs in enumerate(predicted)
        ),
    }


def peak_gb(n_tasks: int, d: int, n: int) -> float:
    """Peak resident memory of a process that does nothing but hold and search n_tasks tasks of n rows."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_gb, (n_tasks, d, n))


def _peak_gb(n_tasks: int, d: int, n: int) -> float:
    ours([newt_like(seed, d, n_full=(n, n)) for seed in range(n_tasks)])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def breakdown(problems: list[Problem]) -> dict[str, float]:
    """Milliseconds a task and thread by stage, of the folds of some tasks, beside what the machine's rates
    allow.

    Floors: dot products at the measured rate of a matrix product; steps at the bytes their vector passes
    touch (108 a row) at the measured rate of a pass over vectors in the cache; kernel values at one such pass
    over 12 bytes a value."""
    grid = svm_fit.Grid(svm.draw_candidates(100, 42))
    spent = dict.fromkeys(("prepare", "dots", "kernels", "steps", "decide"), 0.0)
    flops = passes = values = 0.0

    def timed(stage: str, function: Callable[..., Any], *arguments: object) -> Any:
        start = time.perf_counter()
        result = function(*arguments)
        spent[stage] += time.perf_counter() - start
        return result

    for problem in problems:
        (task,) = svm_fit.check_tasks([(problem.x_train, problem.y_train)], None, None)
        for train, test in svm_fit.folds_of(task, 5):
            grouped, starts = svm_fit.grouped_by_class(task, train)
            mean, scale = timed("prepare", smo.moments, task.x, train)
            z = timed("prepare", smo.standardise, task.x, grouped, mean, scale)
            z_test = timed("prepare", smo.standardise, task.x, test, mean, scale)
            dots = timed("dots", smo.gram, z)
            dots_test = timed("dots", np.dot, z, z_test.T)
            n, m = dots_test.shape
            flops += 2 * z.shape[1] * (n * n / 2 + n * m)
            squares, squares_test = np.diag(dots).copy(), smo._squares(z_test)
            space = smo.make_space(n, svm_fit.STATE)
            kernel, diagonal, row = (
                np.zeros((n, space.a.size), np.float32),
                np.zeros(space.a.size),
                np.empty(n),
            )
            decision, row_test, peak, last = np.empty((1, m)), np.empty(m), np.inf, None
            for c in grid.visit:
                kind, gamma, cost = grid.kinds[c], grid.gammas[c], grid.costs[c]
                if kind != smo.LINEAR or last != smo.LINEAR:
                    timed("kernels", smo.fill_kernel, kind, gamma, dots, squares, kernel, diagonal, row)
                    values, peak = values + n * n / 2, np.inf
                last = kind
                if peak < cost:
                    continue
                rho, n_steps, *peaks = timed(
                    "steps", smo.solve, kernel, diagonal, starts[1], cost, cost, svm_fit.TOL, space
                )
                peak, passes = max(peaks), passes + n_steps * n
                coef = (space.a[:n] * np.where(np.arange(n) < starts[1], 1, -1))[None]
                timed(
                    "decide", smo.decide, kind, gamma, z, squares, z_test, squares_test, dots_test, coef,
                    np.array([rho]), decision, row_test,
                )  # fmt: skip
    dgemm, cached = rates()
    per_task = 1e3 / len(problems)
    return {
        **{f"stage_ms_{stage}": took * per_task for stage, took in spent.items()},
        "floor_ms_dots": flops / dgemm * per_task,
        "floor_ms_kernels": values * 12 / cached * per_task,
        "floor_ms_steps": passes * 108 / cached * per_task,
        "dgemm_gflops": dgemm / 1e9,
        "cached_pass_gb_s": cached / 1e9,
    }


def rates() -> tuple[float, float]:
    """Of one thread: a matrix product's operations, and the bytes of a += b over vectors in the cache, per
    second."""
    a = np.random.default_rng(0).normal(size=(1024, 1024))
    b, c = np.ones(2048), np.ones(2048)
    product = min(seconds(lambda: a @ a)[0] for _ in range(5))
    addition = min(seconds(lambda: [np.add(b, c, out=b) for _ in range(1000)])[0] for _ in range(5)) / 1000
    return 2 * 1024**3 / product, 24 * b.size / addition


def table() -> dict[str, float]:
    """Milliseconds a task, by dimension, training rows and number of tasks."""
    cost = {}
    for n, d, n_tasks in (
        [(n, 1024, 16) for n in (10, 20, 50, 100, 200, 400)]
        + [(100, d, 16) for d in (64, 256, 4096)]
        + [(100, 1024, n_tasks) for n_tasks in (1, 4, 64)]
    ):
        problems = [newt_like(seed, d, n_full=(n, n)) for seed in range(n_tasks)]
        cost[f"ms_a_task_n{n}_d{d}_tasks{n_tasks}"] = (
            min(seconds(lambda p=problems: ours(p))[0] for _ in range(3)) * 1e3 / n_tasks
        )
    return cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as one flat object")
    parser.add_argument("--budget", type=float, default=60, help="seconds for scikit-learn at each size (default 60)")
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--quick", action="store_true", help="smallest sizes: does everything run?")
    options = parser.parse_args()
    if options.quick:
        options = argparse.Namespace(**{**vars(options), **QUICK})

    first, _ = seconds(lambda: svm.SVC(announce=print).fit([(np.eye(2, dtype=np.float32), [0, 1])]))
    figures: dict[str, float | str] = {
        "machine": platform.processor() or platform.machine(),
        "threads": THREADS,
        "tasks": options.tasks,
        "dim": options.dim,
        "start_up_seconds": first,
        "cuml": "not measured",
    }
    for name, n_train in SIZES.items():
        figures |= compare(name, n_train, options.tasks, options.dim, options.budget)
    for name, n_train in SIZES.items():
        figures |= compare_grid(name, n_train, min(GRID_TASKS, options.tasks), options.dim)
    figures["differing_predictions"] = sum(int(v) for k, v in figures.items() if k.startswith("differing_predictions_"))
    figures["peak_gb"] = peak_gb(options.tasks, options.dim, 220)
    with threadpool_limits(1):
        figures |= breakdown([newt_like(seed, options.dim) for seed in range(min(6, options.tasks))])
    figures |= {} if options.quick else table()
    for key, value in figures.items():
        print(f"{key:32} {value:.4g}" if isinstance(value, float) else f"{key:32} {value}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
