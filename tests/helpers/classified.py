"""Runs of `bb probe classify` by made-up backbones, for tests of pages: of any number of them and of classes."""

import numpy as np

from bb.probe.classification.scores import Answers, score
from bb.probe.tasks.fold import TaskImages
from tests.helpers.boards import sha
from tests.helpers.stores import run_record


def put_classified(store, backbone, accuracy, classes, *, images, n_train="all", seed=0, size=None, groups=0):
    """A run as `bb probe classify` would have written it; wrong answers are of a neighbouring class.

    classes  names; groups: how many sites there are, 0 where images are independent
    """
    rng = np.random.default_rng(list(f"{backbone}/{n_train}/{seed}".encode()))
    y = np.arange(images) % len(classes)
    wrong = (y + rng.choice([-1, 1], images)) % len(classes)
    predicted = np.where(rng.random(images) < accuracy, y, wrong)
    decision = np.full((images, len(classes)), 0.1)
    decision[np.arange(images), predicted] = 1.0
    group = np.arange(images) % groups if groups else None
    names = tuple(f"site {k}" for k in range(groups))
    ids = np.array([f"pics/{k:05d}.jpg" for k in range(images)])
    task = TaskImages("classify", "classes", ids, y, tuple(classes), group, None, names)
    confidence = np.full((images, len(classes)), 0.2 / max(len(classes) - 1, 1))
    confidence[np.arange(images), predicted] = 0.8 if len(classes) > 1 else 1.0
    answers = Answers("5 folds", task, np.arange(images), predicted, decision, confidence)
    record = run_record(
        run_id=sha(f"{backbone}/{n_train}/{seed}/{len(classes)}"),
        tasks="pets",
        protocol="classify",
        target="classes",
        parameters={"preprocessing": "center-l2"},
        n_train=n_train,
        seed=seed,
        classifier="logistic",
        backend="bb",
        identical_to_sklearn=False,
        test_set=sha("pets"),
        train_pool=sha("pool"),
        split_by="random",
        class_names={"classify": list(classes)},
        group_names={"classify": list(names)},
        space=sha(backbone),
        collection=sha("collection"),
        collection_name="pics",
        backbones=[backbone],
        width=384,
        scores=score([answers]),
        provenance={
            "made": "2026-11-05T12:00:00+00:00",
            "extraction": [{"backbone": backbone, "device": "NVIDIA H100", **(size or {})}],
        },
    )
    rows = answers.frame()
    return store.put_run(record, rows, rows.select("task", "image_id", "y_true").rename({"y_true": "y"}))
