"""What is done to the features of both splits before a classifier sees them, fitted on the training rows.

none         as stored, float32
l2           each row by its own norm (Euclidean)
center-l2    l2, less the mean of the training rows, l2 again: NeWT in biobench
standard     less the mean, by the standard deviation of each feature over the training rows (StandardScaler)
standard-l2  standard, then l2: NeWT as its authors have it

A row whose norm is zero (below 10 float32 epsilons) stays as it is, where a division would make NaN.
"""

import numpy as np
from jaxtyping import Float, Float32

from bb.store.errors import UsageError

PREPROCESSING = ("none", "l2", "center-l2", "standard", "standard-l2")
ROW_BY_ROW = ("none", "l2")


def preprocess(
    how: str, x_train: Float[np.ndarray, "n d"], x_test: Float[np.ndarray, "m d"]
) -> tuple[Float32[np.ndarray, "n d"], Float32[np.ndarray, "m d"]]:
    """Both splits, ready for the classifier; NaN and infinity pass through. Errors: UsageError for another name."""
    train, test = x_train.astype(np.float32, copy=False), x_test.astype(np.float32, copy=False)
    match how:
        case "none" | "l2":
            return row_by_row(how, train), row_by_row(how, test)
        case "center-l2":
            train, test = _unit(train), _unit(test)
            mean = train.mean(axis=0)
            return _unit(train - mean), _unit(test - mean)
        case "standard":
            import sklearn
            from sklearn.preprocessing import StandardScaler

            with sklearn.config_context(assume_finite=True):
                scaler = StandardScaler().fit(train)
                return scaler.transform(train), scaler.transform(test)
        case "standard-l2":
            train, test = preprocess("standard", train, test)
            return _unit(train), _unit(test)
        case _:
            raise UsageError(f"Unknown preprocessing {how!r}: choose {', '.join(PREPROCESSING)}.")


def row_by_row(how: str, x: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    """What one of ROW_BY_ROW does, for which rows don't depend on each other."""
    return x if how == "none" else _unit(x)


def _unit(x_ND: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    import sklearn
    from sklearn.preprocessing import normalize

    # What isn't finite is refused with the task's name when the problem is checked, so not here without it.
    with sklearn.config_context(assume_finite=True):
        return normalize(x_ND)
