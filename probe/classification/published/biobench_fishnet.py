"""biobench's FishNet: nine traits by a network of two linear layers."""

from bb.probe.classification.published.protocol import PublishedProtocol

PROTOCOL = PublishedProtocol(
    name="biobench-fishnet",
    title="linear, dropout, linear; 30,000 steps of Adam with a learning rate that halves every 20 steps",
    source="samuelstevens/biobench, src/biobench/fishnet/__init__.py, 8b45d0a",
    paper="BioBench (github.com/samuelstevens/biobench)",
    tables=("biobench, docs/data/results.json: fishnet",),
    classifier="mlp-multilabel",
    selection="nothing is chosen",
    parameters={
        "lr": 3e-4, "batch": 1024, "epochs": None, "steps": 30_000, "halve_every": "step", "threshold": "logit",
    },
    metric="macro_f1@biobench",
    target="traits",
    seeds=(0, 1, 2),
    seeded="seed",
    faults=(
        "the learning rate halves every 20 steps, not epochs, so nearly all is learned in 100 of the 30,000 steps",
        "a trait is predicted where its logit is above 0.5, which is a probability above 0.622",
        "F1 is the mean over both answers of a trait, so a rare trait that is never predicted scores near 0.5",
        "no seed is set: the source's scores differ from run to run",
    ),
    differs=(
        "three seeds are run, and the mean is the headline",
        "steps whose learning rates sum to less than 1e-12 are left out: no weight moves further",
        "features are pooled by maximum in timm networks without a class token",
    ),
)  # fmt: skip
