"""biobench's FungiCLEF: the nearest class mean, unknown by Mahalanobis distance, and FungiCLEF's user loss."""

from bb.probe.classification.published.protocol import PublishedProtocol

PROTOCOL = PublishedProtocol(
    name="biobench-fungiclef",
    title="nearest class mean (CL2N); unknown beyond the 95th percentile of training distances; FungiCLEF's user loss",
    source="samuelstevens/biobench, src/biobench/fungiclef/__init__.py and metrics.py, 8b45d0a",
    paper="BioBench (github.com/samuelstevens/biobench), after FungiCLEF2023",
    tables=("biobench, docs/data/results.json: fungiclef",),
    classifier="mahalanobis",
    selection="nothing is chosen",
    parameters={"percentile": 95.0},
    metric="user_loss_score",
    pool_group="test-mean",
    faults=(
        "the source's score takes test images of classes without a training image for unknown; its bootstrap "
        "leaves them their own class",
    ),
    differs=(
        "observations are means of their images where they are tested, and single images where they are trained on",
        "the list of poisonous species is read from a file, in the source from the web when it is imported",
        "features are computed in float16 under autocast",
    ),
)
