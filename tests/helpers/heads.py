"""Features to train heads on, and heads."""

import numpy as np
import polars as pl
import torch

from bb.probe.heads.examples import Examples
from bb.probe.heads.model import Head, linear_layers
from bb.probe.heads.recipe import Angular, HeadRecipe, Sampling, Triplet
from bb.probe.heads.train import train
from bb.probe.heads.validation import Validation
from bb.probe.retrieval.labels import parse_items


def clusters(labels, dim=8, seed=0, spread=1.0):
    """Rows around a centre for each label, float32."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(labels) + 1, dim))
    return (centres[labels] + spread * rng.normal(size=(len(labels), dim))).astype(np.float32)


PARENT = "a" * 64


LABELS = np.repeat(np.arange(6), 10)


HELD = parse_items(pl.DataFrame({"image_id": [f"{i:02}" for i in range(40)], "label": np.arange(40) % 4}))


def rows_of(labels, seed):
    """12 numbers, of which 4 tell labels apart; the others are loud, and say nothing of any label."""
    told = clusters(labels, 4, seed=seed, spread=0.5)
    loud = np.random.default_rng(seed).normal(size=(len(labels), 8)) * np.linspace(0.5, 4, 8)
    return np.concatenate([told, loud], axis=1).astype(np.float32)


X = rows_of(LABELS, 0)


VALIDATE = Validation(HELD, rows_of(np.arange(40) % 4, 1))


def head(hidden=None, dim=5):
    torch.manual_seed(0)
    return Head(linear_layers(12, dim, hidden), PARENT)


def trained(recipe, **options):
    return train(Examples(X, LABELS, LABELS % 2), recipe, PARENT, VALIDATE, **options)


RECIPES = {
    "hard": HeadRecipe(start="plain", epochs=8),
    "bank": HeadRecipe(Triplet(bank=20), start="plain", epochs=8),
    "soft, all": HeadRecipe(Triplet("all", margin=None), start="plain", epochs=8),
    "clusters": HeadRecipe(Triplet("hard-cluster"), start="plain", epochs=8),
    "arcface": HeadRecipe(Angular(), start="plain", epochs=8, rate=1e-2, warmup=2),
    "hidden": HeadRecipe(Triplet("n-hard", (1, 3)), hidden=20, epochs=8, rate=1e-2, warmup=2),
    "category": HeadRecipe(sampling=Sampling("category", (2, 2, 4)), start="plain", epochs=8),
    "distinct": HeadRecipe(sampling=Sampling("distinct-categories", (1, 3, 4)), start="plain", epochs=8),
}
