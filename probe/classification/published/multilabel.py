"""FishNet and AwA2 as BioCLIP 2 and biobench score them: traits by a network of two linear layers."""

from dataclasses import replace

from bb.probe.classification.published.protocol import PublishedProtocol

_THRESHOLD = "a trait is predicted where its logit is above 0.5, which is a probability above 0.622"

FISHNET = PublishedProtocol(
    name="bioclip2-fishnet",
    title="linear, dropout, linear; 50 epochs of Adam with a learning rate that halves every 20; all traits right",
    source="Imageomics/bioclip-2, src/evaluation/fishnet.py, 216f7c8",
    paper="BioCLIP 2 (github.com/Imageomics/bioclip-2)",
    tables=("BioCLIP 2, tasks beyond species classification: FishNet",),
    classifier="mlp-multilabel",
    selection="nothing is chosen",
    parameters={"lr": 1e-4, "batch": 256, "epochs": 50, "threshold": "logit"},
    metric="exact_match",
    target="traits",
    seeds=(0, 1, 2),
    seeded="seed",
    faults=(_THRESHOLD,),
    differs=(
        "learning rate, epochs and batch are arguments of the source",
        "the order of rows is bb's: its seeds draw other batches",
    ),
)

AWA2 = replace(
    FISHNET,
    name="bioclip2-awa2",
    title="linear, dropout, linear; 50 epochs of Adam with a learning rate that halves every 20; macro-F1",
    source="Imageomics/bioclip-2, src/evaluation/awa2.py, 216f7c8",
    tables=("BioCLIP 2, tasks beyond species classification: AwA2",),
    parameters={**FISHNET.parameters, "lr": 1e-5},
    metric="macro_f1",
    differs=(
        "the source's F1 is of the first two of 85 attributes: labels=np.unique(y_true) is [0, 1], which scikit-learn "
        "takes for places of attributes; bb's is of all, so the two don't compare",
        *FISHNET.differs,
    ),
)

BIOBENCH_FISHNET = PublishedProtocol(
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
        _THRESHOLD,
        "F1 is the mean over both answers of a trait, so a rare trait that is never predicted scores near 0.5",
        "no seed is set: the source's scores differ from run to run",
    ),
    differs=(
        "three seeds are run, and the mean is the headline",
        "steps whose learning rates sum to less than 1e-12 are left out: no weight moves further",
        "features are pooled by maximum in timm networks without a class token",
    ),
)  # fmt: skip
