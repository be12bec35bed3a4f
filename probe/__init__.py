"""Labels, classifiers, statistics and reports over stored features.

`bb.probe.run(…)`, `report(…)`, `classify(…)`, `bench(…)`, `zeroshot(…)`, `predict(…)`, `suggest(…)` … do what the verbs
do. Modules are called run, too: import their contents with `from bb.probe.run import …`, which Python finds by name and
not by attribute.
"""

from typing import TYPE_CHECKING

from bb.store.lazy_names import lazy_names

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

lazy_names(
    __name__,
    {
        "bench": "bench.facade",
        "classify": "classification.facade",
        "compare_runs": "facade",
        "identify": "labelling.identify",
        "predict": "labelling.predict",
        "report": "facade",
        "report_classification": "classification.facade",
        "report_retrieval": "retrieval.report.facade",
        "rerank": "heads.pairwise.rerank",
        "retrieve": "retrieval.facade",
        "read_names": "text.read_names",
        "run": "facade",
        "score_search": "text.score_search",
        "search": "text.search",
        "suggest": "labelling.active_learning.suggest",
        "train_head": "heads.facade",
        "use_head": "heads.facade",
        "use_model": "labelling.use_model",
        "zeroshot": "text.zero_shot",
    },
)
