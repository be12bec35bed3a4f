"""Classifiers by name: the SVMs of NeWT as records of parameters, bb's estimators, and those of plug-ins.

A plug-in's classifier is a callable without arguments, such as a class, that makes a new estimator in scikit-learn's
manner: `fit(X, y)`, `predict(X)` and `decision_function(X)` or `predict_proba(X)`.
"""

from collections.abc import Callable
from typing import Any

from bb.store.plugins import Registry

CLASSIFIERS: Registry[Callable[[], Any]] = Registry(
    "bb.classifiers",
    "classifier",
    {
        "linear": "bb.probe.classifiers.protocol:LinearSVM",
        "search": "bb.probe.classifiers.protocol:RandomSearchSVM",
        "logistic": "bb.probe.classifiers.multiclass.logistic:Logistic",
        "logistic-lbfgs": "bb.probe.classifiers.multiclass.logistic_lbfgs:LogisticLBFGS",
        "svm": "bb.probe.classifiers.multiclass.svm:SVM",
        "svm-balanced": "bb.probe.classifiers.multiclass.svm:BalancedSVM",
        "linear-svc": "bb.probe.classifiers.multiclass.linear_svc:LinearSVCSearch",
        "knn": "bb.probe.classifiers.multiclass.knn:NearestNeighbours",
        "simpleshot": "bb.probe.classifiers.multiclass.simpleshot:SimpleShot",
        "mahalanobis": "bb.probe.classifiers.multiclass.mahalanobis:Mahalanobis",
        "ridge": "bb.probe.classifiers.multiclass.ridge:Ridge",
        "ridge-fixed": "bb.probe.classifiers.multiclass.ridge_fixed:FixedRidge",
        "linear-adamw": "bb.probe.classifiers.trained.linear_adamw:LinearAdamW",
        "attentive": "bb.probe.classifiers.trained.attentive:Attentive",
        "mlp-multilabel": "bb.probe.classifiers.trained.mlp_multilabel:MLPMultilabel",
    },
    needs=("__call__",),
)
