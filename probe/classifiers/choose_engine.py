"""Which engine fits a run: bb's own where memory allows, others for large tasks or by name."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from bb.probe.classifiers import cuml, exact, sklearn
from bb.probe.classifiers.engine import Engine, FitResult, Problem, Size, checked
from bb.probe.classifiers.protocol import Classifier, GridLinearSVC, PluginClassifier
from bb.store.errors import UsageError

BACKENDS = ("auto", "exact", "sklearn", "cuml")


@dataclass(frozen=True)
class SplitEngine:
    """Two engines as one: tasks that the exact one has the memory for, and the rest, which a note of theirs names."""

    small: Engine
    large: Engine

    @property
    def name(self) -> str:
        return f"{self.small.name}+{self.large.name}"

    @property
    def version(self) -> str:
        return f"{self.small.version} + {self.large.version}"

    @property
    def identical(self) -> bool:
        return self.small.identical and self.large.identical

    def solve(self, problems: Iterable[Problem], classifier: Classifier, *, jobs: int) -> Iterator[FitResult]:
        work = [problem for problem, _ in checked(problems, classifier)]
        small = [p for p in work if is_small(Size.of(p))]
        large = [p for p in work if not is_small(Size.of(p))]
        yield from self.small.solve(small, classifier, jobs=jobs)
        for outcome in self.large.solve(large, classifier, jobs=jobs):
            note = f"too large for the exact engine, so done by {self.large.name}"
            yield replace(outcome, notes=(*outcome.notes, note))


def choose(
    backend: str,
    sizes: Iterable[Size] = (),
    classifier: Classifier | None = None,
    announce: Callable[[str], None] | None = None,
) -> Engine:
    """The engine for `--backend` and the sizes of a run's tasks.

    "auto" is the exact engine for every task whose Gram matrices fit its bound of memory (all of NeWT's do), and for
    larger ones cuML where it and a GPU are there, scikit-learn otherwise. `announce` hears of a first compilation.

    Errors: UsageError for an unknown name, and for an engine that was asked for and can't run here.
    """
    if isinstance(classifier, PluginClassifier):
        if backend not in ("auto", "sklearn"):
            raise UsageError(f"--backend {backend} can't fit {classifier.kind}, a plug-in's classifier: choose auto.")
        return sklearn.ScikitLearn()
    match backend:
        case "auto":
            if isinstance(classifier, GridLinearSVC) or all(is_small(size) for size in sizes):
                return exact.Exact(announce)
            return SplitEngine(exact.Exact(announce), sklearn.ScikitLearn() if cuml.missing() else cuml.CuML())
        case "exact":
            return exact.Exact(announce)
        case "sklearn":
            return sklearn.ScikitLearn()
        case "cuml":
            return cuml.CuML()
        case _:
            raise UsageError(f"--backend {backend!r} is unknown; choose {', '.join(BACKENDS)}.")


def is_small(size: Size) -> bool:
    """Whether the exact engine has the memory for a task."""
    return exact.fits(*size)
