"""biobench's linear probe against a loop in plain torch, written from its description."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from bb.probe.classifiers import trained
from bb.probe.classifiers.estimator import make
from bb.store.errors import BBError
from tests.helpers.trained_oracles import linear


def digits(n=1200):
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return x[order].astype(np.float32)[:n], y[order][:n], x[order].astype(np.float32)[n:], y[order][n:]


@pytest.mark.parametrize(("batch", "lr"), [(2048, 1e-2), (500, 3e-3)])
def test_predictions_are_those_of_the_plain_loop(batch, lr):
    x, y, x_test, y_test = digits()
    mine = replace(make("linear-adamw"), steps=200, batch=batch, lr=lr, seed=7).fit(x, y)
    logits = linear(x, y, x_test, steps=200, batch=batch, lr=lr, seed=7)
    np.testing.assert_allclose(mine.decision_function(x_test), logits, atol=2e-3)
    assert (mine.predict(x_test) == logits.argmax(axis=1)).all()
    assert (mine.predict(x_test) == y_test).mean() > 0.85


def test_a_seed_decides_and_an_other_gives_an_other_fit():
    x, y, x_test, _ = digits(300)
    state = torch.random.get_rng_state()
    first, again, other = (replace(make("linear-adamw"), steps=20, seed=seed).fit(x, y) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    np.testing.assert_array_equal(first.decision_function(x_test), again.decision_function(x_test))
    assert np.abs(first.decision_function(x_test) - other.decision_function(x_test)).max() > 0.01
    assert first.parameters_["seed"] == 3 and first.parameters_["device"] == "cpu"


def test_absent_classes_have_outputs_where_they_are_asked_for():
    x, y, x_test, _ = digits(400)
    mine = replace(make("linear-adamw"), steps=60, lr=1e-2, absent_classes=True).fit(x[y != 4], y[y != 4])
    assert mine.classes_.tolist() == list(range(10)) and mine.decision_function(x_test).shape == (len(x_test), 10)
    logits = linear(x[y != 4], y[y != 4], x_test, steps=60, batch=2048, lr=1e-2, seed=0)
    assert (mine.predict(x_test) == logits.argmax(axis=1)).all()


def test_as_published():
    published = {"steps": 10_000, "batch": 2048, "lr": 3e-4, "weight_decay": 1e-2, "absent_classes": False, "seed": 0}
    assert make("linear-adamw").parameters() == published


def test_without_torch_and_with_weights_that_grow_without_end(monkeypatch):
    x, y, *_ = digits(100)
    with pytest.raises(BBError, match="became NaN or infinite at a learning rate of 1e[+]37: choose a smaller one"):
        replace(make("linear-adamw"), steps=5, lr=1e37).fit(x, y)
    monkeypatch.delattr(trained, "torch_loops")
    monkeypatch.setitem(sys.modules, f"{trained.__name__}.torch_loops", None)
    with pytest.raises(BBError, match=r"'linear-adamw' is trained with torch.*pip install 'backbone-bench\[heads\]'"):
        make("linear-adamw").fit(x, y)
