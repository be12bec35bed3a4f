"""The suite that every published protocol passes, bb's own and those of plug-ins: `check(protocol)`."""

import json

import numpy as np

from bb.probe.classification.spec import Spec
from bb.probe.statistics import multilabel
from bb.probe.statistics.multiclass import metrics
from bb.probe.tasks.fold import Fold, Split, TaskImages


def fold(protocol, n=240, classes=3):
    """Labelled images of which a protocol draws: classes, or two traits."""
    y = np.arange(n) % classes
    ids = np.array([f"{k}/{i:04}.jpg" for i, k in enumerate(y)])
    order = np.argsort(ids)
    ids, y, rows = ids[order], y[order], np.arange(n)
    if protocol.target == "traits":
        traits = np.stack([y == 0, y == 1], axis=1).astype(np.int8)
        task = TaskImages("task", "traits", ids, traits, ("one", "two"))
    else:
        task = TaskImages("task", "classes", ids, y, tuple("abc"))
    if protocol.pool == "all":
        return Fold("drawn", task, rows, rows[:0], rows[:0])
    return Fold("test", task, rows[rows % 4 > 1], rows[rows % 4 == 0], rows[rows % 4 == 1])


def check(protocol):
    """Runs the suite."""
    known = multilabel.METRICS if protocol.target == "traits" else {*metrics.METRICS, "user_loss_score"}
    assert protocol.metric in known
    for text in (protocol.name, protocol.title, protocol.source, protocol.paper, protocol.selection, *protocol.tables):
        assert text and text == text.strip()
    assert protocol.tables
    given = fold(protocol)
    whole = Split(given.task, "column", (given,), 1)
    before = [given.train.copy(), given.test.copy(), given.val.copy()]
    for shots, seed, setting in protocol.grid(None, None):
        record = protocol.record(setting)
        assert json.loads(json.dumps(record)) == record
        spec = Spec.of(protocol, shots, seed, setting)
        assert hasattr(spec.estimator(given.task.target), "fit")
        first, second = (protocol.draw_split(whole, shots, seed).folds[0] for _ in range(2))
        for name in ("train", "val", "test"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        rows = np.concatenate([first.train, first.val, first.test])
        assert len(first.train) and len(first.test) and len(np.unique(rows)) == len(rows)
        pool = np.concatenate([given.train, given.val])
        assert np.isin(first.train, pool).all() and np.isin(first.val, pool).all()
        if protocol.pool == "split":
            np.testing.assert_array_equal(first.test, given.test)
        if shots != "all":
            assert np.bincount(given.task.y[first.train]).max() <= shots
    for mine, theirs in zip(before, (given.train, given.test, given.val), strict=True):
        np.testing.assert_array_equal(mine, theirs)
