"""The learned pairwise model: it helps where there is something to learn, does not hurt elsewhere, comes back."""

import os

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save as to_safetensors  # noqa: E402

from bb.probe.heads.pairwise.learn import PairwiseExamples, _Look, _pairs, _refused, learn, start, trained  # noqa: E402
from bb.probe.heads.pairwise.model import FORMAT, LearnedDistance, encode, load, save  # noqa: E402
from bb.probe.retrieval.pairwise_model import Distance, Separable  # noqa: E402
from bb.store.errors import BBError, UsageError  # noqa: E402
from bb.store.files.canonical_json import sha256_hex  # noqa: E402
from tests.contracts.extractor import check_freezable  # noqa: E402
from tests.contracts.pairwise_model import check_pairwise_model  # noqa: E402
from tests.helpers.retrieval import DIM, clouds  # noqa: E402


@pytest.fixture(scope="module")
def learned():
    return learn(*clouds(12, 12, nuisance=2.0), trivial=Distance(), top_n=30)


def test_it_helps_on_labels_that_it_has_not_seen(learned):
    features, labels = clouds(12, 12, nuisance=2.0, seed=1)
    look = _Look.at(PairwiseExamples(features, labels, None), Distance(), 30)
    assert learned.chosen.startswith("whitened") and isinstance(learned.model, LearnedDistance)
    assert look.score(learned.model)[0].mean() > look.score(Distance())[0].mean() + 0.1
    assert learned.refused == ""
    assert learned.scores[learned.chosen] == max(learned.scores.values()) > learned.scores["trivial"] + 0.1


def test_where_the_trivial_distance_is_as_good_it_stays():
    features, labels = clouds(8, 6, nuisance=0.0)
    found = learn(features, labels, trivial=Distance(), top_n=20)
    assert found.model == Distance() and found.chosen == "trivial"
    assert isinstance(found.scores["trivial"], float)


def test_four_labels_are_too_few_to_accept_a_model_by():
    features, labels = clouds(4, 20, nuisance=2.0)
    found = learn(features, labels, trivial=Distance(), top_n=20)
    assert found.model == Distance() and max(found.scores.values()) > found.scores["trivial"] + 0.1
    assert found.refused == "4 labels with two images are too few to hold out (at least 5)"


def test_what_helps_with_one_label_alone_is_not_taken():
    """Whitening finds the twenty images of one label; by images that is beyond chance, by labels it is not."""
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.zeros(60, int), np.repeat(np.arange(1, 12), 4)])
    trivial = np.stack([np.full(len(labels), 0.5), np.zeros(len(labels))])
    better = trivial + np.stack([np.where(labels == 0, 0.3, 0) + 0.01 * rng.normal(size=len(labels)), trivial[1]])
    assert "on 12 labels held out, the best of 1 candidates changes MAP@R by +0.1" in _refused(
        labels, trivial, better, 1
    )
    everywhere = trivial + np.stack([0.3 + 0.01 * rng.normal(size=len(labels)), trivial[1]])
    assert _refused(labels, trivial, everywhere, 30) == ""


def test_a_seed_says_all(learned):
    again = learn(*clouds(12, 12, nuisance=2.0), trivial=Distance(), top_n=30)
    assert encode(again.model) == encode(learned.model) and again.scores == learned.scores
    told = []
    other = learn(
        *clouds(12, 12, nuisance=2.0), trivial=Distance(), top_n=30, seed=1, progress=lambda *said: told.append(said)
    )
    assert other.scores != learned.scores
    assert told == sorted(told) and told[-1][0] == told[-1][1] and len({total for _, total in told}) == 1


def test_it_keeps_the_contracts(learned):
    model = learned.model
    assert isinstance(model, Separable)
    check_pairwise_model(model, DIM)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable == {"turn", "scale", "bias"}
    check_freezable(model, lambda: list(model.parameters()))
    x1, x2 = np.random.default_rng(2).normal(size=(2, 9, DIM)).astype(np.float32)
    found = model.predict(x1, x2)
    assert np.array_equal(found, model.predict(x2, x1))
    assert np.allclose(found, model.predict(3 * x1, 0.5 * x2), atol=1e-5)  # lengths say nothing


def test_its_distances_are_log_odds(learned):
    features, labels = clouds(12, 12, nuisance=2.0, seed=3)
    firsts, seconds = np.arange(144).reshape(24, 6)[::2].ravel(), np.arange(144).reshape(24, 6)[1::2].ravel()
    same = learned.model.predict(features[firsts], features[seconds])
    other = learned.model.predict(features[:-12], features[12:])
    assert (labels[firsts] == labels[seconds]).all() and (labels[:-12] != labels[12:]).all()
    assert np.median(same) < 0 < np.median(other)


def test_training_lowers_the_loss_and_moves_only_what_it_may():
    features, labels = clouds(6, 10, nuisance=1.0)
    examples = PairwiseExamples(features / np.linalg.norm(features, axis=1, keepdims=True), labels, None)
    model = start(examples, 0.1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    run = trained(model, examples, Distance(), 20, seed=0)
    for _ in range(3):
        assert next(run) is model
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"turn", "scale", "bias"}


def test_the_start_makes_labels_round():
    features, labels = clouds(30, 30, nuisance=2.0)
    examples = PairwiseExamples(features / np.linalg.norm(features, axis=1, keepdims=True), labels, None)
    model = start(examples, 0.0)
    white = (examples.features - model.centre.numpy()) @ model.whitening.numpy()
    means = np.stack([white[labels == code].mean(axis=0) for code in range(30)])
    within = white - means[labels]
    assert np.allclose(within.T @ within / len(within), np.eye(DIM), atol=1e-3)


def test_no_pair_is_of_one_image_or_of_one_sequence():
    features, labels = clouds(5, 8, nuisance=1.0)
    sequence = np.arange(40) // 2  # of a label each
    examples = PairwiseExamples(features, labels, sequence)
    near = _Look.at(examples, Distance(), 10).ranking.nearest
    first, second = _pairs(examples, near, np.arange(40), np.random.default_rng(0))
    assert len(first) > 500 and (second >= 0).all()
    assert (sequence[first] != sequence[second]).all() and (first != second).all()
    assert {True, False} == set((labels[first] == labels[second]).tolist())


@pytest.mark.parametrize("images", [1, 2])
def test_too_few_labels_to_learn_from(images):
    features, labels = clouds(5, images, nuisance=1.0)
    labels[labels == 4] = 3
    labels[labels == 3] = 2
    with pytest.raises(BBError) as said:
        learn(features, labels, trivial=Distance())
    assert str(said.value) == (
        f"a pairwise model is learned from at least 4 labels with two images each; {1 if images == 1 else 3} of 3 "
        "here have them. Take another split, or a model that is learned: --load FILE."
    )


def test_better_by_chance_alone_is_not_better():
    """Features that say nothing of labels: some candidate has a higher mean, but no paired test agrees."""
    rng = np.random.default_rng(0)
    higher = 0
    for seed in range(3):
        features = rng.normal(size=(80, DIM)).astype(np.float32)
        found = learn(features, np.repeat(np.arange(10), 8), trivial=Distance(), top_n=20, seed=seed)
        assert found.chosen == "trivial" and found.model == Distance()
        assert found.refused.startswith("on 10 labels held out, the best of ") and "not beyond chance" in found.refused
        higher += max(found.scores.values()) > found.scores["trivial"]
    assert higher > 0


def test_labels_of_one_sequence_each():
    features, labels = clouds(5, 4, nuisance=1.0)
    with pytest.raises(BBError) as said:
        learn(features, labels, labels, trivial=Distance())
    assert str(said.value) == "all images of each label are of one sequence, so no pairs are left to learn from."


def test_features_that_are_no_numbers():
    features, labels = clouds(5, 4, nuisance=1.0)
    features[3, 2] = np.nan
    with pytest.raises(BBError, match=r"^the features hold a NaN or an infinity: see `bb store verify`\.$"):
        learn(features, labels, trivial=Distance())


def test_a_model_comes_back_from_its_file(learned, tmp_path):
    digest = save(learned.model, tmp_path / "m.safetensors")
    assert sha256_hex((tmp_path / "m.safetensors").read_bytes()) == digest == sha256_hex(encode(learned.model))
    found = load(tmp_path / "m.safetensors", DIM)
    x1, x2 = np.random.default_rng(2).normal(size=(2, 9, DIM)).astype(np.float32)
    assert np.array_equal(found.predict(x1, x2), learned.model.predict(x1, x2))
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]
    save(Distance("euclidean"), tmp_path / "d.safetensors")
    assert load(tmp_path / "d.safetensors", 99) == Distance("euclidean")


def file_of(tensors, said=None):
    return to_safetensors(tensors, {"bb": FORMAT} if said is None else said)


GOOD = dict(start(PairwiseExamples(*clouds(4, 4, nuisance=1.0), None), 0.1).state_dict())


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x80\x04pickle", "holds no pairwise model (.*)"),
        (file_of(GOOD, {}), "(it does not say so)"),
        (file_of({}, {"bb": FORMAT, "distance": "taxi"}), "(it has the distance 'taxi')"),
        (file_of({}), "(its tensors are not"),
        (file_of({**GOOD, "extra": torch.zeros(1)}), "(its tensors are not"),
        (file_of({**GOOD, "centre": torch.zeros(3)}), "(its tensors are not"),
        (file_of({**GOOD, "scale": torch.tensor(1.0, dtype=torch.float64)}), "(its tensors are not"),
        (file_of({**GOOD, "bias": torch.tensor(float("nan"))}), "(it holds a NaN or an infinity)"),
    ],
    ids=("pickle", "silent", "taxi", "empty", "extra", "shape", "dtype", "NaN"),  # metadata have no order
)
def test_a_file_that_holds_no_model(data, why, tmp_path):
    file = tmp_path / "m.safetensors"
    file.write_bytes(data)
    with pytest.raises(BBError) as said:
        load(file, DIM)
    assert str(said.value).startswith(f"{file} holds no pairwise model (")
    assert why.removesuffix(".*)") in str(said.value)
    assert str(said.value).endswith("): `bb probe rerank --save FILE` makes one.")


def test_a_file_that_is_absent_is_bad_usage(tmp_path):
    with pytest.raises(UsageError, match=r"found no model at .*absent: `bb probe rerank --save FILE` writes one"):
        load(tmp_path / "absent", DIM)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BBError, match="holds no pairwise model .is a pipe, not a file"):
        load(tmp_path / "pipe", DIM)


def test_a_model_for_features_of_another_length(tmp_path):
    (tmp_path / "m").write_bytes(file_of(GOOD))
    with pytest.raises(UsageError) as said:
        load(tmp_path / "m", 7)
    assert str(said.value) == (
        f"{tmp_path / 'm'} compares features of length 16; those here have 7. Learn one for them."
    )
