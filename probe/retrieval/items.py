"""Stands in until the labelled table is there."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int, Shaped


@dataclass(frozen=True, eq=False)
class Items:
    frame: pl.DataFrame

    @property
    def image_ids(self) -> Shaped[np.ndarray, " n"]:
        return self.frame["image_id"].to_numpy()

    @property
    def label_codes(self) -> Int[np.ndarray, " n"]:
        return np.unique(self.frame["label"].to_numpy().astype(str), return_inverse=True)[1]

    @property
    def sequence(self) -> Int[np.ndarray, " n"] | None:
        if "sequence" not in self.frame.columns:
            return None
        return np.unique(self.frame["sequence"].to_numpy().astype(str), return_inverse=True)[1]

    @property
    def category(self) -> Shaped[np.ndarray, " n"] | None:
        return self.frame["category"].to_numpy() if "category" in self.frame.columns else None

    @property
    def queries(self) -> Int[np.ndarray, " q"]:
        if "is_query" in self.frame.columns:
            return np.flatnonzero(self.frame["is_query"].to_numpy())
        return np.arange(len(self.frame))

    @property
    def gallery(self) -> Int[np.ndarray, " g"]:
        if "is_gallery" in self.frame.columns:
            return np.flatnonzero(self.frame["is_gallery"].to_numpy())
        return np.arange(len(self.frame))

    def split(self, name: str) -> "Items":
        return Items(self.frame.filter(pl.col("split") == name))


def read_items(file: Path) -> Items:
    table = (
        pl.read_parquet(file)
        if file.suffix == ".parquet"
        else pl.read_csv(file, schema_overrides={"image_id": pl.String, "label": pl.String})
    )
    return Items(table.sort("image_id"))
