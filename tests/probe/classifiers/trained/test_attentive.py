"""The attentive probe against AIM's module written out, and on rows that a store holds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from bb.probe.classifiers.estimator import make
from bb.probe.classifiers.trained import torch_attention
from bb.store.errors import BBError
from tests.helpers.trained_oracles import attention


def patches(n=500):
    """Digits in 2 x 2 tokens of 4 x 4 pixels, each with its place."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(3).permutation(len(x))[: n + 400]
    x = x[order].reshape(-1, 2, 4, 2, 4).transpose(0, 1, 3, 2, 4).reshape(-1, 4, 16) / 16
    x = np.concatenate([x, np.broadcast_to(np.eye(4), (len(x), 4, 4))], axis=2).astype(np.float32)
    return x[:n], y[order][:n], x[n:], y[order][n:]


def test_predictions_are_those_of_the_module_written_out():
    x, y, x_test, y_test = patches()
    words = {"epochs": 12, "batch": 64, "seed": 5}
    mine = replace(make("attentive"), lr=(3e-3,), weight_decay=(1e-2,), **words).fit(x, y)
    assert mine.parameters_["heads"] == 10  # 20 numbers a token: 12 heads do not divide them
    logits = attention(x, y, x_test, heads=10, lr=3e-3, decay=1e-2, **words)
    np.testing.assert_allclose(mine.decision_function(x_test), logits, atol=5e-3)
    assert (mine.predict(x_test) == logits.argmax(axis=1)).all() and (mine.predict(x_test) == y_test).mean() > 0.6


def test_the_pair_with_most_held_out_rows_right_is_chosen_and_all_rows_fitted():
    x, y, x_test, _ = patches(300)
    words = {"epochs": 8, "batch": 64, "seed": 1}
    mine = replace(make("attentive"), lr=(1e-6, 3e-3), weight_decay=(0.0,), **words).fit(x, y)
    assert mine.parameters_["lr"] == 3e-3 and mine.parameters_["weight_decay"] == 0.0
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1)).numpy()
    tested, rest = np.sort(order[:30]), np.sort(order[30:])
    right = [
        (attention(x[rest], y[rest], x[tested], heads=10, lr=lr, decay=0.0, **words).argmax(axis=1) == y[tested]).mean()
        for lr in (1e-6, 3e-3)
    ]
    assert mine.parameters_["held_out_accuracy"] == pytest.approx(max(right)) and right[1] > right[0]
    logits = attention(x, y, x_test, heads=10, lr=3e-3, decay=0.0, **words)
    assert (mine.predict(x_test) == logits.argmax(axis=1)).all()


def test_nothing_is_chosen_where_nothing_can_be_held_out():
    x, y, *_ = patches(9)
    mine = replace(make("attentive"), epochs=2).fit(x, y)
    assert (mine.parameters_["lr"], mine.parameters_["weight_decay"]) == (1e-3, 0.0)
    assert mine.parameters_["held_out_accuracy"] is None


def test_image_features_are_refused():
    x, y, *_ = patches(20)
    with pytest.raises(BBError, match="'attentive' takes patch features, and these are image features: extract with"):
        make("attentive").fit(x[:, 0], y)


def test_as_specified():
    assert make("attentive").parameters() == {
        "heads": 12, "epochs": 20, "batch": 256, "lr": [1e-4, 3e-4, 1e-3, 3e-3], "weight_decay": [0.0, 1e-2],
        "held_out": 0.1, "seed": 0,
    }  # fmt: skip


class Spy:
    """Rows that say how many are read at once."""

    def __init__(self, x):
        self.x, self.shape, self.ndim, self.dtype, self.read = x, x.shape, x.ndim, x.dtype, []

    def __len__(self):
        return len(self.x)

    def __getitem__(self, rows):
        part = self.x[rows]
        self.read.append(len(part))
        return part


def test_no_more_than_a_batch_is_read_at_once():
    x, y, *_ = patches(300)
    spy = Spy(x)
    torch_attention.train_attentive(spy, y, 10, 10, replace(make("attentive"), epochs=2, batch=32))
    assert max(spy.read) == 32 and sum(spy.read) == 2 * 270 + 30 + 2 * 300  # every row in each epoch, held out once
