"""biobench's SimpleShot: the nearest class mean of centred unit vectors."""

from bb.probe.classification.published.protocol import PublishedProtocol

PROTOCOL = PublishedProtocol(
    name="biobench-simpleshot",
    title="nearest class mean after centring and scaling to unit norm (CL2N)",
    source="samuelstevens/biobench, src/biobench/simpleshot.py, 8b45d0a",
    paper="BioBench (github.com/samuelstevens/biobench), after SimpleShot (arXiv 1911.04623)",
    tables=("biobench, docs/data/results.json: the classifier below FungiCLEF's open-set decision",),
    classifier="simpleshot",
    selection="nothing is chosen",
    parameters={"variant": "CL2N"},
    metric="macro_f1@biobench",
    faults=("macro-F1 averages over all class numbers, so that a class without images counts 0",),
    differs=(
        "the source predicts a place among the classes that have training images, not the class: the same only where "
        "every class has some; bb predicts the class",
        "FungiCLEF's score is a loss over unknown species, not macro-F1",
        "features are computed in float16 under autocast, and pooled by maximum in timm networks without a class token",
    ),
)
