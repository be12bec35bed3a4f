"""The engine through cuML's SVMs on an NVIDIA GPU.

scikit-learn runs the search, cuML fits the SVMs: one candidate and fold after another. cuML's solver is
another than libsvm's and takes other paths to its answer, so `identical` is False. Neither its speed nor its
agreement with scikit-learn has been measured yet.
"""

import ctypes
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import ClassVar

import numpy as np

from bb.probe.classifiers.engine import FitResult, Problem, checked
from bb.probe.classifiers.protocol import Classifier
from bb.probe.classifiers.sklearn import estimator, fit
from bb.store.errors import UsageError


class CuML:
    """Fulfils bb.probe.classifiers.engine.Engine. Errors: UsageError where cuML or a GPU is missing."""

    name: ClassVar[str] = "cuml"
    identical: ClassVar[bool] = False

    def __init__(self) -> None:
        reason = missing()
        if reason:
            raise UsageError(f"--backend cuml can't run here: {reason}. --backend sklearn needs neither.")

    @property
    def version(self) -> str:
        import cuml

        return cuml.__version__

    def solve(self, problems: Iterable[Problem], classifier: Classifier, *, jobs: int) -> Iterator[FitResult]:
        """As the contract has it, one task after another: they share the GPU, so `jobs` has no effect."""
        from cuml.svm import SVC, LinearSVC

        for problem, notes in checked(problems, classifier):
            svms = {"svc": SVC(output_type="numpy"), "linear_svc": LinearSVC(output_type="numpy")}
            int32 = replace(problem, y_train=problem.y_train.astype(np.int32))  # cuML's own type of label
            outcome = fit(int32, classifier, notes, estimator(classifier, **svms))
            yield replace(outcome, y_pred=outcome.y_pred.astype(problem.y_train.dtype))


def missing() -> str | None:
    """Why cuML can't run here and what to do about it; None where it can."""
    if "cuml" not in sys.modules and importlib.util.find_spec("cuml") is None:
        return 'cuML is not installed; pip install "backbone-bench[cuml]"'
    if not gpus():
        return "the NVIDIA driver shows no GPU (see nvidia-smi)"
    return None


def gpus() -> int:
    """How many GPUs the NVIDIA driver shows. It is asked itself: importing cuML without a GPU may fail."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value
