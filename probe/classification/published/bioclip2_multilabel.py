"""BioCLIP 2's FishNet and AwA2: traits by a network of two linear layers."""

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
        "learning rate, epochs and batch are arguments in the source; these are what its table is said to be made with",
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
