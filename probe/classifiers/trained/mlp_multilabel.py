"""The two-layer network that FishNet and AwA2 are scored with: several yes-or-no labels of one image.

Sources: Imageomics/bioclip-2, src/evaluation/fishnet.py and awa2.py; samuelstevens/biobench, fishnet/__init__.py. Both
take a logit above 0.5 for a yes, which is a probability above 0.622; bb's default is a probability above 0.5.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Float64, Shaped

from bb.probe.classifiers.estimator import checked_features, checked_traits, parameters_of
from bb.probe.classifiers.trained.training import torch_training


@dataclass(eq=False)
class MLPMultilabel:
    """Linear, dropout, linear, by binary cross-entropy over known traits. Fulfils
    bb.probe.classifiers.estimator.Estimator.

    hidden, dropout  width of the layer between, and the share of it that a step leaves out
    lr               of Adam, halved every 20 epochs, or steps
    halve_every      "epoch" or "step": what is counted for halving. With steps, as in biobench, all learning rates sum
                     to 40 of the first, so nearly all is learned in 100 steps
    epochs           bioclip-2: 50. None: `steps` counts
    steps            biobench: 30,000. Those whose learning rates sum to less than 1e-12 are left out
    batch            rows of a step; each epoch is shuffled, and its last batch is what is left
    threshold        "probability": yes above 0.5; "logit": yes above a logit of 0.5, as published
    seed             of the first weights, of the order of rows and of dropout
    """

    hidden: int = 512
    dropout: float = 0.5
    lr: float = 1e-4
    halve_every: Literal["epoch", "step"] = "epoch"
    epochs: int | None = 50
    steps: int | None = None
    batch: int = 256
    threshold: Literal["probability", "logit"] = "probability"
    seed: int = 0
    targets: ClassVar[frozenset[str]] = frozenset({"traits"})
    classes_: Shaped[np.ndarray, " k"] = field(init=False, repr=False)
    parameters_: dict[str, Any] = field(init=False, repr=False)

    def fit(self, X: Float[np.ndarray, "n d"], y: Float[np.ndarray, "rows t"]) -> "MLPMultilabel":
        x = checked_features(X)
        y = checked_traits(y, len(x))
        self.classes_ = np.arange(y.shape[1])
        training = torch_training("mlp-multilabel")
        (first, first_bias, second, second_bias), loss = training.train_two_layers(x, y, self)
        # Without an activation between them the layers are one.
        self._coef = second.astype(np.float64) @ first
        self._intercept = second.astype(np.float64) @ first_bias + second_bias
        self.parameters_ = {"seed": self.seed, "last_loss": loss, **training.circumstances()}
        return self

    def predict(self, X: Float[np.ndarray, "m d"]) -> Shaped[np.ndarray, "m t"]:
        return (self.decision_function(X) > 0).astype(np.int64)

    def decision_function(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m t"]:
        """Log odds less the threshold's."""
        return self._log_odds(X) - (0.5 if self.threshold == "logit" else 0.0)

    def predict_proba(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m t"]:
        """That each trait is 1."""
        from scipy.special import expit

        return expit(self._log_odds(X))

    def parameters(self) -> dict[str, Any]:
        return parameters_of(self)

    def _log_odds(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m t"]:
        return checked_features(X, self._coef.shape[1]).astype(np.float64) @ self._coef.T + self._intercept
