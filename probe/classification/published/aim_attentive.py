"""An attentive probe with AIM's head on stored patch features."""

from bb.probe.classification.published.protocol import PublishedProtocol

PROTOCOL = PublishedProtocol(
    name="aim-attentive",
    title="attention by one learned query over patch features, 20 epochs of AdamW",
    source="apple/ml-aim, aim-v1/aim/v1/torch/layers.py (AttentionPoolingClassifier), 3762121",
    paper="AIM (github.com/apple/ml-aim)",
    tables=("AIM, attentive probes of frozen trunks: another recipe, see below",),
    classifier="attentive",
    selection="learning rate of 1e-4, 3e-4, 1e-3, 3e-3 and weight decay of 0, 1e-2 by accuracy on a held-out tenth of "
              "the training images; then all are fitted",
    seeds=(0, 1, 2),
    seeded="seed",
    replica=False,
    differs=(
        "only the head is AIM's: optimiser, epochs and choice are bb's, and images are not augmented",
        "patch features may be pooled to a grid (--pool-grid)",
        "tokens are normalised by the mean and variance of all training images, in the source by running averages",
    ),
)  # fmt: skip
