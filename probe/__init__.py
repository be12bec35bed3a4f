"""Labels, classifiers, statistics and reports over stored features.

`bb.probe.run(…)`, `report(…)`, `classify(…)`, `bench(…)`, `zeroshot(…)`, `predict(…)`, `suggest(…)` … do what the verbs
do. Modules are called run, too: import their contents with `from bb.probe.run import …`, which Python finds by name and
not by attribute.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

HOMES = {
    "bench": "bb.probe.bench.facade",
    "classify": "bb.probe.classification.facade",
    "compare_runs": "bb.probe.facade",
    "identify": "bb.probe.labelling.identify",
    "predict": "bb.probe.labelling.predict",
    "report": "bb.probe.facade",
    "report_classification": "bb.probe.classification.facade",
    "report_retrieval": "bb.probe.retrieval.report.facade",
    "rerank": "bb.probe.heads.pairwise.rerank",
    "retrieve": "bb.probe.retrieval.facade",
    "read_names": "bb.probe.text.read_names",
    "run": "bb.probe.facade",
    "score_search": "bb.probe.text.score_search",
    "search": "bb.probe.text.search",
    "suggest": "bb.probe.labelling.active_learning.suggest",
    "train_head": "bb.probe.heads.facade",
    "use_head": "bb.probe.heads.facade",
    "use_model": "bb.probe.labelling.use_model",
    "zeroshot": "bb.probe.text.zero_shot",
}

if TYPE_CHECKING:
    from bb.probe.bench.facade import bench as bench
    from bb.probe.classification.facade import classify as classify
    from bb.probe.classification.facade import report_classification as report_classification
    from bb.probe.facade import compare_runs as compare_runs
    from bb.probe.facade import report as report
    from bb.probe.facade import run as run
    from bb.probe.heads.facade import train_head as train_head
    from bb.probe.heads.facade import use_head as use_head
    from bb.probe.heads.pairwise.rerank import rerank as rerank
    from bb.probe.labelling.active_learning.suggest import suggest as suggest
    from bb.probe.labelling.identify import identify as identify
    from bb.probe.labelling.predict import predict as predict
    from bb.probe.labelling.use_model import use_model as use_model
    from bb.probe.retrieval.facade import retrieve as retrieve
    from bb.probe.retrieval.report.facade import report_retrieval as report_retrieval
    from bb.probe.text.read_names import read_names as read_names
    from bb.probe.text.score_search import score_search as score_search
    from bb.probe.text.search import search as search
    from bb.probe.text.zero_shot import zeroshot as zeroshot


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # Importing bb.probe.run would set the attribute `run` of bb.probe to the module.
        if not (name in HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
