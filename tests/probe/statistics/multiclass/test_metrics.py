"""Metrics of many classes against scikit-learn's, and by hand where it has none."""

import numpy as np
import pytest
from sklearn import metrics as sk

from bb.probe.statistics.multiclass.by_class import by_class, most_confused
from bb.probe.statistics.multiclass.metrics import METRICS, majority
from bb.probe.statistics.multiclass.predictions import Predictions
from bb.store.errors import BBError

K, N = 9, 400


@pytest.fixture(scope="module")
def p():
    """Classes of uneven sizes, of which 3 has no images, and 8 none and no predictions."""
    rng = np.random.default_rng(0)
    y = rng.choice(K - 1, N, p=np.array([30, 20, 10, 0, 5, 4, 3, 2]) / 74)
    z = rng.normal(size=(N, K))
    z[np.arange(N), y] += 1
    z[:, 8] = -9
    given = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return Predictions(y, given.argmax(axis=1), K, given)


def oracle(p):
    y, answers, given = p.y_true, p.y_pred, p.probabilities
    present = np.unique(y)
    return {
        "accuracy": sk.accuracy_score(y, answers),
        "balanced_accuracy": np.mean([(answers[y == k] == k).mean() for k in present]),
        "macro_f1@wilds": sk.f1_score(y, answers, average="macro", labels=present),
        "macro_f1@biobench": sk.f1_score(y, answers, average="macro", labels=range(8), zero_division=0),
        "top_5": sk.top_k_accuracy_score(y, given, k=5, labels=range(K)),
        "average_precision": np.mean([sk.average_precision_score(y == k, given[:, k]) for k in present]),
        "auroc": np.mean([sk.roc_auc_score(y == k, given[:, k]) for k in present]),
        "nll": sk.log_loss(y, given, labels=range(K)),
        "brier": np.mean(((given - np.eye(K)[y]) ** 2).sum(axis=1)),
    }


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_scikit_learn_agrees(p):
    for name, value in oracle(p).items():
        assert METRICS[name].value(p) == pytest.approx(value, abs=1e-12), name


def test_as_many_right_answers_are_the_same_share_to_the_bit():
    rng = np.random.default_rng(0)
    y = rng.integers(0, K, 80)
    found = {METRICS["accuracy"].value(Predictions(y, np.where(rng.permutation(80) < 75, y, (y + 1) % K), K))
             for _ in range(50)}  # fmt: skip
    assert found == {0.9375}


def test_ties_are_scikit_learns(p):
    given = np.round(p.probabilities, 1) + 0.01
    tied = Predictions(p.y_true, p.y_pred, K, given / given.sum(axis=1, keepdims=True))
    present = np.unique(p.y_true)
    ap = np.mean([sk.average_precision_score(p.y_true == k, tied.probabilities[:, k]) for k in present])
    auc = np.mean([sk.roc_auc_score(p.y_true == k, tied.probabilities[:, k]) for k in present])
    assert METRICS["average_precision"].value(tied) == pytest.approx(ap, abs=1e-12)
    assert METRICS["auroc"].value(tied) == pytest.approx(auc, abs=1e-12)


def test_both_conventions_of_macro_f1_by_hand():
    """Classes 0 and 1 are there, 2 is predicted once, 3 neither: F1 is 1/2, 4/5 and 0."""
    p = Predictions(np.array([0, 0, 1, 1, 1]), np.array([0, 2, 1, 1, 0]), 4)
    assert METRICS["macro_f1@wilds"].value(p) == pytest.approx((1 / 2 + 4 / 5) / 2)
    assert METRICS["macro_f1@biobench"].value(p) == pytest.approx((1 / 2 + 4 / 5) / 3)


def two_classes(confidence, hit):
    """Predictions of class 0 with these confidences, above 1/2."""
    c = np.asarray(confidence, float)
    return Predictions(1 - np.asarray(hit, int), np.zeros(len(c), int), 2, np.stack([c, 1 - c], axis=1))


def test_ece_by_hand():
    """Bins of 1/15: (0.8, 0.867] has 0.81 and 0.85, one right; (0.933, 1] has 0.95 and 1, both right."""
    p = two_classes([0.81, 0.85, 0.95, 1.0], [1, 0, 1, 1])
    assert METRICS["ece"].value(p) == pytest.approx((abs(1.66 - 1) + abs(1.95 - 2)) / 4)
    # As many bins as images: each is its own.
    assert METRICS["ece_adaptive"].value(p) == pytest.approx((0.19 + 0.85 + 0.05 + 0) / 4)
    assert METRICS["ece"].value(two_classes([0.8], [1])) == pytest.approx(0.2)


def test_aurc_by_hand():
    """Errors at the second and fourth of the surest: risks 0, 1/2, 1/3, 2/4."""
    p = two_classes([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0])
    assert METRICS["aurc"].value(p) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    # The mean over both orders of two that are as sure: risks 0, 1/2 or 1, 1/2.
    assert METRICS["aurc"].value(two_classes([0.9, 0.9], [1, 0])) == pytest.approx((1 / 4 + 3 / 4) / 2)


def test_top_5_counts_equal_probabilities_from_the_first_class():
    given = np.full((2, 10), 0.1)
    assert METRICS["top_5"].value(Predictions(np.array([4, 5]), np.array([0, 0]), 10, given)) == 0.5
    few = Predictions(np.array([0]), np.array([0]), 5, np.full((1, 5), 0.2))
    assert np.isnan(METRICS["top_5"].value(few))


def test_chance_and_majority():
    """A guess that gives each class the same probability, simulated."""
    rng = np.random.default_rng(1)
    y = np.repeat(np.arange(4), [4000, 2000, 1500, 500])
    p = Predictions(y, rng.integers(0, 6, len(y)), 6, np.full((len(y), 6), 1 / 6))
    for name in ("accuracy", "balanced_accuracy", "macro_f1@wilds", "macro_f1@biobench", "nll", "brier", "aurc"):
        assert METRICS[name].value(p) == pytest.approx(METRICS[name].chance(p), abs=0.02), name
    assert METRICS["average_precision"].value(p) == pytest.approx(METRICS["average_precision"].chance(p))
    assert METRICS["auroc"].value(p) == METRICS["auroc"].chance(p) == 0.5
    assert majority(p) == 0.5


def test_confusion_and_classes_are_scikit_learns(p):
    assert np.array_equal(p.confusion, sk.confusion_matrix(p.y_true, p.y_pred, labels=range(K)))
    found = {each.label: each for each in by_class(p)}
    assert 8 not in found and np.isnan(found[3].recall)
    seen = sorted(set(found) - {3})
    precision, recall, f1, n = sk.precision_recall_fscore_support(p.y_true, p.y_pred, labels=seen, zero_division=0)
    assert [found[k].n for k in seen] == n.tolist()
    assert np.allclose([[found[k].precision, found[k].recall, found[k].f1] for k in seen], np.c_[precision, recall, f1])


def test_intervals_of_a_class_by_hand():
    """9 of 10 images right, and 2 others taken for it: Agresti and Coull's bounds, of F1 those of J = 9/12."""
    y = np.repeat([0, 1], [10, 20])
    answers = np.r_[np.zeros(9, int), 1, 0, 0, np.ones(18, int)]
    found = by_class(Predictions(y, answers, 2))[0]

    def bounds(right, of):
        z = 1.959963984540054
        middle = (right + z**2 / 2) / (of + z**2)
        half = z * np.sqrt(middle * (1 - middle) / (of + z**2))
        return max(middle - half, 0), min(middle + half, 1)

    assert found.recall_interval == pytest.approx(bounds(9, 10))
    assert found.precision_interval == pytest.approx(bounds(9, 11))
    assert found.f1_interval == pytest.approx([2 * j / (1 + j) for j in bounds(9, 12)])
    assert found.f1 == pytest.approx(18 / 21)


def test_few_images_or_groups_leave_a_class_without_intervals():
    y = np.repeat([0, 1], [7, 20])
    assert by_class(Predictions(y, y, 2))[0].recall_interval is None
    assert by_class(Predictions(y, y, 2))[1].recall_interval[1] == 1
    assert by_class(Predictions(y, y, 2, group=np.arange(27)))[1].recall_interval is None


def test_most_confused():
    p = Predictions(np.array([0, 0, 0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 2, 0, 0, 2, 0]), 3)
    pairs = [(c.true, c.predicted, c.n, c.share) for c in most_confused(p, 3)]
    assert pairs == [(1, 0, 2, 1.0), (0, 1, 2, 0.5), (2, 0, 1, 0.5)]


@pytest.mark.parametrize(
    "values, message",
    [
        (([], [], 2), "no predictions: give at least one image."),
        (([0, 2], [0, 1], 2), "y_true has the class '2': number the 2 classes from 0."),
        (([0, 1], [-1, 1], 2), "y_pred has the class '-1': number the 2 classes from 0."),
        (
            ([0, 1], [0, 1], 2, np.array([[0.5, 0.5], [2.0, -1.0]])),
            "the probabilities of image 1 add up to '1': give numbers of 0 or more that add up to 1, such as a softmax "
            "of decisions.",
        ),
        (
            ([0, 1], [0, 1], 2, np.array([[3.0, 1.0], [0.5, 0.5]])),
            "the probabilities of image 0 add up to '4': give numbers of 0 or more that add up to 1, such as a softmax "
            "of decisions.",
        ),
    ],
)
def test_what_predictions_are_refused(values, message):
    y_true, y_pred, *others = values
    with pytest.raises(BBError) as caught:
        Predictions(np.array(y_true, int), np.array(y_pred, int), *others)
    assert str(caught.value) == message


def test_probabilities_are_missed_by_name():
    with pytest.raises(BBError) as caught:
        METRICS["ece"].value(Predictions(np.array([0]), np.array([0]), 2))
    assert str(caught.value) == (
        "the classifier gives no probabilities: choose one that does, or a metric of predictions."
    )
