"""The paragraph for a paper names what runs of retrieval record."""

from bb.probe.retrieval.report.methods import bibtex, methods
from tests.helpers.boards import sha
from tests.helpers.retrieval import retrieval_run as run

CLAIM = "95% intervals for further labels like these 30, with images of their own"


def test_it_names_backbones_search_statistics_and_digests():
    runs = [run("timm:a", versions={"numpy": "2.1", "backbone-bench": "0.1"}), run("timm:b")]
    said = methods(runs, "map@r", CLAIM)
    for words in (
        "We compared 2 frozen vision backbones (timm:a (21.7 M parameters, 4.6 GFLOPs an image, 224x224 pixels), timm",
        "on whales, with 90 queries and 120 images in the gallery.",
        "All images were queries and gallery of each other",
        "The gallery was ranked by cosine distance, exactly. Queries without a relevant image are left out",
        f"We report map@r, the mean over queries, with {CLAIM}, after Agresti and Coull",
        "the independent units are labels.",
        "(Newcombe's square-and-add), without resampling; p-values are corrected for all comparisons by Holm's method",
        "Computed with bb (backbone-bench 0.1, numpy 2.1);",
        f"collection pics {sha('collection')[:12]}, test set {sha('test')[:12]};",
        f"feature spaces timm:a {sha('timm:a')[:12]}, timm:b {sha('timm:b')[:12]};",
        f"runs {sha('id timm:a')[:12]}/{sha('digest timm:a')[:12]}, ",
    ):
        assert words in said, said
    alone = methods(runs[1:], "map@r", CLAIM)
    assert "Holm" not in alone and "1 frozen vision backbone (" in alone and "its versions are not recorded" in alone


def test_heads_and_re_ranked_runs_are_no_backbones():
    runs = [run("timm:a"), run("timm:a", rerankers=[{"step": "rerank", "model": "m"}]), run("head:0123456789ab")]
    said = methods(runs, "map@r", CLAIM)
    assert "We compared 1 frozen vision backbone (timm:a (" in said
    assert " and 1 projection head (head:0123456789ab (" in said and ") on whales, with 90 queries" in said
    assert "A projection head was trained with labels, on stored features of a frozen backbone." in said
    assert "projection head" not in methods(runs[:2], "map@r", CLAIM)


def test_roles_folds_index_and_re_ranking_are_said():
    against = run("a", roles={"split": "test", "against": "train"}, convention="oml")
    said = methods([against], "map@r", CLAIM)
    assert "The images of the split test were queries, those of the split train the gallery." in said
    assert "Scores are counted as Open Metric Learning 4.0 does." in said
    folded = methods([run("a", roles={"folds": 5, "seed": 3})], "map@r", CLAIM)
    assert "They were dealt into 5 folds (seed 3)." in folded
    index = {"name": "faiss", "probes": 32, "sample": 1000}
    step = {"step": "rerank", "model": "lightglue", "top_n": 50}
    said = methods([run("a", index=index), run("a", rerankers=[step])], "map@r", CLAIM)
    assert "cosine distance, approximately by faiss (probes 32, sample 1000) (a)" in said
    assert "cosine distance, exactly, then by rerank (model lightglue, top_n 50) (a re-ranked)" in said


def test_without_intervals_no_test_is_claimed():
    claim = "no intervals: 3 labels are too few to tell of further ones (at least 5)"
    said = methods([run("a"), run("b")], "map@r", claim)
    assert f"We report map@r, the mean over queries; {claim}." in said
    assert "Agresti" not in said and "Holm" not in said


def test_the_data_set_is_cited_where_it_is_known():
    assert bibtex([run("a", tasks="nobody")]).count("@") == 1
    assert bibtex([run("a", tasks="inat21")]).count("@") == 2
