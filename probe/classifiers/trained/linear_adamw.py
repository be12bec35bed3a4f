"""biobench's linear probe: LayerNorm and a linear layer, trained by AdamW.

Source: samuelstevens/biobench, src/biobench/linear_probing.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Float32, Float64, Shaped

from bb.probe.classifiers.estimator import checked_arrays, checked_classes, checked_features, parameters_of
from bb.probe.classifiers.trained.training import torch_training

EPSILON = 1e-5  # of torch's LayerNorm


@dataclass(eq=False)
class LinearAdamW:
    """softmax(W LayerNorm(x) + b) by cross-entropy. Fulfils bb.probe.classifiers.estimator.Estimator.

    steps           of the optimiser; there is no early stopping
    batch           rows of a step; each epoch is shuffled, and its last batch is what is left
    lr              of the first step; along a half cosine to a hundredth of it, set after each step
    weight_decay    of W alone
    absent_classes  an output for every integer up to the largest label, as biobench has; else for the labels there are
    seed            of the first weights and of the order of rows

    In float32 on the CPU, where biobench has float16 autocast on a GPU.
    """

    steps: int = 10_000
    batch: int = 2048
    lr: float = 3e-4
    weight_decay: float = 1e-2
    absent_classes: bool = False
    seed: int = 0
    targets: ClassVar[frozenset[str]] = frozenset({"classes"})
    classes_: Shaped[np.ndarray, " k"] = field(init=False, repr=False)
    parameters_: dict[str, Any] = field(init=False, repr=False)

    def fit(self, X: Float[np.ndarray, "n d"], y: Shaped[np.ndarray, " rows"]) -> "LinearAdamW":
        x = checked_features(X)
        self.classes_, codes = checked_classes(y, len(x))
        if self.absent_classes:
            self.classes_, codes = np.arange(int(np.max(y)) + 1), np.asarray(y, np.int64)
        training = torch_training("linear-adamw")
        arrays, loss = training.train_linear(x, codes, len(self.classes_), self)
        self._scale, self._shift, self._coef, self._intercept = arrays
        self.parameters_ = {"seed": self.seed, "last_loss": loss, **training.circumstances()}
        return self

    def predict(self, X: Float[np.ndarray, "m d"]) -> Shaped[np.ndarray, " m"]:
        return self.classes_[self.decision_function(X).argmax(axis=1)]

    def decision_function(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m k"]:
        """Scores whose softmax are the probabilities."""
        x = self._normalised(checked_features(X, len(self._scale)))
        return x @ self._coef.T.astype(np.float64) + self._intercept

    def predict_proba(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m k"]:
        from scipy.special import softmax

        return softmax(self.decision_function(X), axis=1)

    def parameters(self) -> dict[str, Any]:
        return parameters_of(self)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"classes": self.classes_, "scale": self._scale, "shift": self._shift, "coef": self._coef,
                "intercept": self._intercept}  # fmt: skip

    def with_arrays(self, arrays: Mapping[str, np.ndarray]) -> "LinearAdamW":
        wanted = {"scale": "float32 d", "shift": "float32 d", "coef": "float32 k d", "intercept": "float32 k"}
        found = checked_arrays(arrays, wanted)
        self.classes_, self.parameters_ = found["classes"], {}
        self._scale, self._shift, self._coef, self._intercept = (found[name] for name in wanted)
        return self

    def _normalised(self, x: Float32[np.ndarray, "m d"]) -> Float64[np.ndarray, "m d"]:
        x = x.astype(np.float64)
        x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + EPSILON)
        return x * self._scale + self._shift
