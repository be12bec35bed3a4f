"""The network of FishNet and AwA2 against a loop in plain torch, with the learning rates of both sources."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from bb.probe.classifiers.estimator import make
from tests.helpers.trained_oracles import two_layers


def traits():
    """Digits: even, above 4, prime."""
    x, y = load_digits(return_X_y=True)
    marks = np.stack([y % 2 == 0, y > 4, np.isin(y, (2, 3, 5, 7))], axis=1).astype(np.float64)
    order = np.random.default_rng(1).permutation(len(x))
    x, marks = (x[order] / 16).astype(np.float32), marks[order]
    return x[:900], marks[:900], x[900:], marks[900:]


def test_as_bioclip2_has_it():
    x, y, x_test, y_test = traits()
    mine = replace(make("mlp-multilabel", "traits"), lr=1e-3, epochs=25, batch=200, seed=5).fit(x, y)
    logits = two_layers(x, y, x_test, lr=1e-3, epochs=25, batch=200, seed=5)
    np.testing.assert_allclose(mine.decision_function(x_test), logits, atol=2e-3)
    assert (mine.predict(x_test) == (logits > 0)).all() and (mine.predict(x_test) == y_test).mean() > 0.85
    published = replace(mine, threshold="logit").fit(x, y)
    assert (published.predict(x_test) == (logits > 0.5)).all() and (logits > 0.5).sum() < (logits > 0).sum()
    np.testing.assert_allclose(published.predict_proba(x_test), 1 / (1 + np.exp(-logits)), atol=1e-3)


def test_as_biobench_has_it_most_steps_change_nothing():
    x, y, x_test, _ = traits()
    recipe = {"lr": 3e-4, "batch": 1024, "seed": 2}
    mine = make("mlp-multilabel", "traits")
    mine = replace(mine, **recipe, epochs=None, steps=750, halve_every="step", threshold="logit").fit(x[:200], y[:200])
    logits = two_layers(x[:200], y[:200], x_test, **recipe, steps=750)
    np.testing.assert_allclose(mine.decision_function(x_test), logits - 0.5, atol=1e-4)
    assert (mine.predict(x_test) == (logits > 0.5)).all()


def test_unknown_traits_are_in_no_loss():
    x, y, x_test, _ = traits()
    y[::2, 0] = np.nan
    recipe = {"lr": 1e-3, "epochs": 10}
    mine = replace(make("mlp-multilabel", "traits"), **recipe).fit(x, y)
    full = replace(make("mlp-multilabel", "traits"), **recipe).fit(x, np.nan_to_num(y))
    assert mine.predict(x_test)[:, 0].mean() > full.predict(x_test)[:, 0].mean() + 0.1


@pytest.mark.parametrize("name", ["epochs", "halve_every", "threshold", "lr", "batch", "hidden", "dropout"])
def test_the_defaults_are_bioclip2s_with_the_threshold_of_a_half(name):
    expected = {"epochs": 50, "halve_every": "epoch", "threshold": "probability", "lr": 1e-4, "batch": 256,
                "hidden": 512, "dropout": 0.5}  # fmt: skip
    assert make("mlp-multilabel", "traits").parameters()[name] == expected[name]
