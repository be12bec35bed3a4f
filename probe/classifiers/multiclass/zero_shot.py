"""Zero-shot classification: the class whose text vector is nearest. Nothing is fitted to images.

Logits are 100 x̂·w_c with unit vectors of image and class: CLIP's (Radford et al., 2021), whose temperature ends at
1/100. Probabilities are their softmax.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, Shaped

from bb.probe.classifiers.estimator import checked_features
from bb.store.files.canonical_json import sha256_hex

SCALE = 100.0


@dataclass(eq=False)
class ZeroShot:
    """Fulfils bb.probe.classifiers.estimator.Estimator without training images. w: (k, d) a text vector a class."""

    targets: ClassVar[frozenset[str]] = frozenset({"classes"})
    w: Float32[np.ndarray, "k d"]
    parameters_: dict[str, Any] = field(default_factory=dict)

    @property
    def classes_(self) -> Int64[np.ndarray, " k"]:
        return np.arange(len(self.w))

    def parameters(self) -> dict[str, Any]:
        """See `Estimator`."""
        return {"scale": SCALE, "texts": sha256_hex(np.ascontiguousarray(self.w, "<f4").view(np.uint8).data)}

    def fit(self, X: Float[np.ndarray, "n d"], y: Shaped[np.ndarray, "rows ..."]) -> "ZeroShot":
        """Changes nothing."""
        return self

    def decision_function(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m k"]:
        """Logits. Errors: BBError where features are not finite."""
        x = checked_features(X, self.w.shape[1]).astype(np.float64)
        norm = np.linalg.norm(x, axis=1, keepdims=True)
        w = self.w.astype(np.float64)
        w /= np.linalg.norm(w, axis=1, keepdims=True)
        return SCALE * np.divide(x, norm, out=np.zeros_like(x), where=norm > 0) @ w.T

    def predict(self, X: Float[np.ndarray, "m d"]) -> Int64[np.ndarray, " m"]:
        """Of equal logits the first class."""
        return self.decision_function(X).argmax(axis=1)

    def predict_proba(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m k"]:
        """See `Estimator`."""
        logits = self.decision_function(X)
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)
