"""An attentive probe on stored patch features: one learned query attends to an image's tokens (AIM's head).

Source: apple/ml-aim, AttentionPoolingClassifier in aim/v1/torch/layers.py. With query q and keys K x̂, both of head h,
the attention of token n is softmax_n(q_h · (K_h x̂_n) / sqrt(D / heads)) = softmax_n((K_hᵀ q_h) · x̂_n / …), and the
value of the head is V_h applied to the attended mean of x̂: so no key and no value of a token has to be made, and a
token costs products with 2 x heads vectors in place of 2 D. x̂ are tokens after BatchNorm.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import numpy as np
from jaxtyping import Float, Float64, Shaped

from bb.probe.classifiers.estimator import checked_classes, parameters_of
from bb.probe.classifiers.trained.training import torch_training
from bb.store.errors import BBError
from bb.store.local.stored_rows import StoredRows, blocks

Tokens: TypeAlias = Float[np.ndarray, "n ..."] | StoredRows  # (n, p, d)
_AT_ONCE = 2**22  # numbers of tokens that are predicted together


@dataclass(eq=False)
class Attentive:
    """BatchNorm over tokens, attention by one query, a linear layer. Fulfils
    bb.probe.classifiers.estimator.Estimator with features of three axes: images, tokens, numbers.

    heads         of the attention; as many as divide D where 12 doesn't
    epochs        of AdamW, learning rates along half a cosine to 0
    batch         rows of a step; each epoch is shuffled, and its last batch is what is left
    lr            of these and of `weight_decay` the pair with the most held-out rows right is chosen, of equals the
    weight_decay  first, and all rows are fitted with it. Where nothing can be held out it is 1e-3 and 0
    held_out      share of the rows
    seed          of the first weights, of the rows held out and of the order of rows

    Means and variances of tokens are those of a batch in training, and those of all training rows in predicting, where
    AIM's are running averages: after many steps these agree.
    """

    heads: int = 12
    epochs: int = 20
    batch: int = 256
    lr: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3)
    weight_decay: tuple[float, ...] = (0.0, 1e-2)
    held_out: float = 0.1
    seed: int = 0
    targets: ClassVar[frozenset[str]] = frozenset({"classes"})
    reads: ClassVar[str] = "patch"
    classes_: Shaped[np.ndarray, " k"] = field(init=False, repr=False)
    parameters_: dict[str, Any] = field(init=False, repr=False)

    def fit(self, X: Tokens, y: Shaped[np.ndarray, " rows"]) -> "Attentive":
        self._shape = _checked(X)
        self.classes_, codes = checked_classes(y, len(X))
        training = torch_training("attentive", "torch_attention")
        heads = next(h for h in range(min(self.heads, self._shape[1]), 0, -1) if self._shape[1] % h == 0)
        found = training.train_attentive(X, codes, len(self.classes_), heads, self)
        self._queries, self._values, self._mean, self._scale, self._coef = found.arrays
        self.parameters_ = {
            "heads": heads,
            "lr": found.lr,
            "weight_decay": found.weight_decay,
            "held_out_accuracy": found.held_out_accuracy,
            "seed": self.seed,
            **training.circumstances(),
        }
        return self

    def predict(self, X: Tokens) -> Shaped[np.ndarray, " m"]:
        return self.classes_[self.decision_function(X).argmax(axis=1)]

    def decision_function(self, X: Tokens) -> Float64[np.ndarray, "m k"]:
        """Scores whose softmax are the probabilities."""
        _checked(X, self._shape)
        return np.concatenate([self._scores(x) for x in _some(X)])

    def predict_proba(self, X: Tokens) -> Float64[np.ndarray, "m k"]:
        from scipy.special import softmax

        return softmax(self.decision_function(X), axis=1)

    def parameters(self) -> dict[str, Any]:
        return parameters_of(self)

    def _scores(self, x: Float64[np.ndarray, "m p d"]) -> Float64[np.ndarray, "m k"]:
        from scipy.special import softmax

        x = (x - self._mean) * self._scale
        attention = softmax(x @ self._queries.T, axis=1)
        pooled = attention.transpose(0, 2, 1) @ x  # (m, heads, d)
        values = np.einsum("mhd,hcd->mhc", pooled, self._values, optimize=True)
        return values.reshape(len(x), -1) @ self._coef.T


def _checked(X: Tokens, fitted: tuple[int, int] | None = None) -> tuple[int, int]:
    """How many tokens of how many numbers. Errors: BBError for image features, others than those fitted, or NaN."""
    if X.ndim != 3:
        raise BBError("'attentive' takes patch features, and these are image features: extract with --patch.")
    tokens, d = X.shape[1:]
    if fitted and d != fitted[1]:
        raise BBError(f"images have {d} features, but the classifier was fitted on {fitted[1]}: use one feature space.")
    if bad := sum(int((~np.isfinite(x).all(axis=(1, 2))).sum()) for x in blocks(X)):
        raise BBError(f"{bad} of {len(X)} images have NaN or infinite features: extract them again, or leave them out.")
    return tokens, d


def _some(X: Tokens) -> Iterator[Float64[np.ndarray, "m p d"]]:
    size = max(1, _AT_ONCE // (X.shape[1] * X.shape[2]))
    for start in range(0, len(X), size):
        yield np.asarray(X[start : start + size]).astype(np.float64)
