"""Every estimator of the registry passes the contract's suite, and so does one as a plug-in brings it."""

from dataclasses import replace

import pytest
from sklearn.neighbors import NearestCentroid

from bb.probe.classifiers.estimator import Estimator, make, names, targets_of
from bb.probe.classifiers.registry import CLASSIFIERS
from bb.store.errors import UsageError
from tests.contracts.classifier import check, data, token_data

OWN = (
    *("logistic", "logistic-lbfgs", "svm", "svm-balanced", "linear-svc", "knn", "simpleshot", "mahalanobis", "ridge"),
    *("ridge-fixed", "linear-adamw", "attentive", "mlp-multilabel"),
)
SHORTER = {
    "logistic": {"C": (1e-3, 0.1, 10.0), "folds": 3},
    "linear-adamw": {"steps": 50, "lr": 1e-2},
    "attentive": {"epochs": 3},
    "mlp-multilabel": {"epochs": 4, "lr": 1e-2},
}
PAIRS = [(name, target) for name in OWN for target in sorted(CLASSIFIERS.load(name).targets)]


@pytest.mark.parametrize(("name", "target"), PAIRS)
def test_estimator(name, target):
    def shorter():
        return replace(make(name, target), **SHORTER.get(name, {}))

    made = token_data if name == "attentive" else data
    check(shorter, target, made)
    assert isinstance(shorter().fit(*made(target)[:2]), Estimator)


class WithoutDecisions:
    """As a plug-in may bring it: scikit-learn's, with nothing but fit and predict."""

    def fit(self, X, y):
        self._inner = NearestCentroid().fit(X, y)
        self.classes_ = self._inner.classes_
        return self

    def predict(self, X):
        return self._inner.predict(X)


def test_estimator_of_a_plugin():
    check(WithoutDecisions, "classes")
    assert targets_of(WithoutDecisions) == {"classes"}


def test_names_by_target():
    assert [name for name in names() if name in OWN] == [name for name in OWN if name != "mlp-multilabel"]
    assert [name for name in names("traits") if name in OWN] == ["logistic", "ridge", "mlp-multilabel"]
    assert [name for name in names("values") if name in OWN] == ["ridge"]
    assert "linear" not in names()


def test_what_a_classifier_cannot_fit_is_refused_by_name():
    with pytest.raises(UsageError, match="^'knn' can't fit regression targets; choose ridge.*\\.$"):
        make("knn", "values")
    with pytest.raises(UsageError, match="^'simpleshot' can't fit multi-label targets; choose logistic, ridge.*\\.$"):
        make("simpleshot", "traits")
    with pytest.raises(UsageError, match="^'linear' can't fit classes; choose logistic, logistic-lbfgs, svm, .*\\.$"):
        make("linear")
    with pytest.raises(UsageError, match="^Unknown classifier 'forest': choose logistic, logistic-lbfgs, "):
        make("forest")


def test_parameters_are_the_published_ones():
    record = make("logistic").parameters()
    assert len(record["C"]) == 45 and (record["C"][0], record["C"][-1]) == (1e-6, 1e5) and record["folds"] == 5
    assert make("knn").parameters() == {"k": 20, "max_k": 200, "temperature": 0.07}
    assert make("simpleshot").parameters() == {"variant": "CL2N"}
    assert 1024.0 in make("ridge").parameters()["l2"]
