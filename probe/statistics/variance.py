"""Where a mean score's variance comes from: tasks, images, few-shot draws.

The model, for the score of item i of task t after training on draw s,

    y_tis = μ + T_t + I_ti + D_ts + E_tis,

all terms independent with mean 0: T with variance σ_T², the others with variances σ_It², σ_Dt², σ_Et² that may differ
from task to task (a task near 1 varies little). Images and draws are crossed within their task; an image that serves
two tasks counts as two. Of n_t items and S draws, with the mean squares of a two-way table of one value a cell,

    E MS_I = S σ_It² + σ_Et²,    E MS_D = n_t σ_Dt² + σ_Et²,    E MS_E = σ_Et²,

which, solved, are unbiased estimates of a task's components (Searle, Casella and McCulloch, "Variance Components",
1992, chapter 4; in psychometrics, generalizability theory: Brennan 2001). The variance of a task's mean around its
true value is v_t = σ_It²/n_t + σ_Dt²/S + σ_Et²/(n_t S), and the variance among the observed task means has the
expectation σ_T² + mean_t v_t, which gives σ_T². The mean over T tasks then varies, from sample to sample, by

    σ_T²/T  +  Σ σ_It²/n_t / T²  +  Σ σ_Dt²/S / T²  +  Σ σ_Et²/(n_t S) / T²
    tasks      images               draws              rest: an image after one draw

Estimates can be negative where a component is small: they are reported as they are, for means of them would be biased
otherwise; shares are made of them with 0 in their place. With one draw I and E can't be distinguished, and D is not
seen at all.
"""

from dataclasses import dataclass

import numpy as np

from bb.probe.statistics.predictions import Table
from bb.store.errors import BBError

SOURCES = ("tasks", "images", "draws", "rest")


@dataclass(frozen=True)
class VarianceComponents:
    """One model's components. Those that the data can't show are None.

    components  of one item's score: σ_T², and the means over tasks of the others
    parts       of the variance of the mean over tasks, which they add up to
    """

    model: str
    components: dict[str, float | None]
    parts: dict[str, float | None]

    @property
    def shares(self) -> dict[str, float | None]:
        """Of the variance of the mean over tasks; 1 in sum, or all 0 where nothing varies."""
        total = sum(max(part, 0.0) for part in self.parts.values() if part is not None)
        return {
            source: None if part is None else max(part, 0.0) / total if total > 0 else 0.0
            for source, part in self.parts.items()
        }


def split(table: Table) -> list[VarianceComponents]:
    """The components of each model's scores. Errors: BBError for a task with one test image."""
    alone = np.flatnonzero(table.sizes < 2)
    if len(alone):
        raise BBError(f"task {table.tasks[alone[0]]!r} has one test image, which shows no variance: leave it out.")
    return [_split(table, model) for model in range(len(table.models))]


def _split(table: Table, model: int) -> VarianceComponents:
    columns = table.columns_of(model)
    n_tasks, n_draws = len(table.tasks), len(columns)
    means, within = np.empty(n_tasks), np.empty((n_tasks, 3))
    for task in range(n_tasks):
        y_SN = table.fields["score"][columns, table.of_task(task)].astype(float)
        means[task], within[task] = y_SN.mean(), _two_way(y_SN)
    sizes_T1 = table.sizes[:, None]
    # How much of each component is left in a task's mean.
    kept_T3 = 1 / np.concatenate([sizes_T1, np.full_like(sizes_T1, n_draws), sizes_T1 * n_draws], axis=1)
    noise_T3 = within * kept_T3
    between = float(np.var(means, ddof=1) - noise_T3.sum(axis=1).mean()) if n_tasks > 1 else None
    components = [between, *within.mean(axis=0).tolist()]
    parts = [None if between is None else between / n_tasks, *(noise_T3.sum(axis=0) / n_tasks**2).tolist()]
    if n_draws == 1:
        components[2:] = parts[2:] = [None, None]
    return VarianceComponents(
        table.models[model],
        dict(zip(SOURCES, components, strict=True)),
        dict(zip(SOURCES, parts, strict=True)),
    )


def _two_way(y_SN: np.ndarray) -> tuple[float, float, float]:
    """σ_I², σ_D² and σ_E² of one task; with one draw, all of it as σ_I²."""
    n_draws, n = y_SN.shape
    ms_images = n_draws * float(np.var(y_SN.mean(axis=0), ddof=1))
    if n_draws == 1:
        return ms_images, 0.0, 0.0
    ms_draws = n * float(np.var(y_SN.mean(axis=1), ddof=1))
    rest = y_SN - y_SN.mean(axis=0) - y_SN.mean(axis=1, keepdims=True) + y_SN.mean()
    ms_rest = float((rest**2).sum()) / ((n - 1) * (n_draws - 1))
    return (ms_images - ms_rest) / n_draws, (ms_draws - ms_rest) / n, ms_rest
