"""biobench's linear probe: LayerNorm and a linear layer, 10,000 steps of AdamW."""

from bb.probe.classification.published.protocol import PublishedProtocol

PROTOCOL = PublishedProtocol(
    name="biobench-linear",
    title="LayerNorm and a linear layer, 10,000 steps of AdamW, learning rate along a cosine",
    source="samuelstevens/biobench, src/biobench/linear_probing.py, 8b45d0a",
    paper="BioBench (github.com/samuelstevens/biobench)",
    tables=("biobench, docs/data/results.json: all but newt, fishnet, fungiclef, kabr, mammalnet and beluga",),
    classifier="linear-adamw",
    selection="nothing is chosen, and nothing stops early",
    parameters={"absent_classes": True},
    metric="macro_f1@biobench",
    seeds=(0, 1, 2),
    seeded="seed",
    faults=(
        "macro-F1 averages over all class numbers, so that a class without images counts 0",
        "there is an output for every class number up to the largest that is trained on",
        "no seed is set: the source's scores differ from run to run",
    ),
    differs=(
        "inat21 and imagenet1k are scored by accuracy",
        "bb trains in float32 on a CPU, the source in float16 under autocast on a GPU",
        "three seeds are run, and the mean is the headline",
        "features are computed in float16 under autocast, and pooled by maximum in timm networks without a class token",
    ),
)
