"""Patch tokens averaged to a coarser grid: `--pool-grid 4x4` keeps 16 of an image, whatever the network cuts it into.

The rule is that of adaptive average pooling, so grids need not be square, nor divide: of H rows of tokens the new row i
of R averages rows floor(i H / R) to ceil((i + 1) H / R) - 1, and columns likewise; neighbours share a row where R does
not divide H. A patch space holds patch tokens alone, so class tokens and registers are in no mean.

Sums are taken in float64, token by token in the order of the grid: the same bits whatever the batch, on every driver.
"""

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float32

from bb.store import FeatureSpace, UsageError

Grid: TypeAlias = tuple[int, int]  # rows, columns
Patches: TypeAlias = bool | Grid  # none, all tokens, or those of a coarser grid


def parse_patches(patch: bool, pool_grid: str | None) -> Patches:
    """`--patch` and `--pool-grid` as typed. Errors: UsageError for a grid that is none, or without --patch."""
    if pool_grid is None:
        return patch
    found = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", pool_grid)
    if found is None:
        raise UsageError(f"--pool-grid {pool_grid!r} is not a grid: give rows and columns, such as 4x4.")
    if not patch:
        raise UsageError(f"--pool-grid {pool_grid} is of patch features: add --patch.")
    return int(found[1]), int(found[2])


def patches_of(space: FeatureSpace | None) -> Patches:
    """What was asked for where this is the patch space of a pass."""
    if space is None or space.kind != "patch":
        return False
    return space.pool_grid or True


@dataclass(frozen=True)
class GridPooling:
    """From a grid of tokens to a coarser one."""

    source: Grid
    target: Grid

    @classmethod
    def of(cls, output: dict[str, Any]) -> "GridPooling | None":
        """The pooling that a patch space's output was made by; None where it has all tokens."""
        if "reduced" not in output:
            return None
        (rows, columns), (to_rows, to_columns) = output["reduced"]["from"], output["grid"]
        return cls((rows, columns), (to_rows, to_columns))

    def __call__(self, tokens: Float32[np.ndarray, "n p d"]) -> Float32[np.ndarray, "n q d"]:
        """Means of tokens, row by row from the top left, as the tokens are."""
        columns = self.source[1]
        pooled = np.empty((len(tokens), self.target[0] * self.target[1], tokens.shape[2]), np.float32)
        places = [(i, j) for i in range(self.target[0]) for j in range(self.target[1])]
        for place, (i, j) in enumerate(places):
            cell = [
                row * columns + column
                for row in _covered(i, self.target[0], self.source[0])
                for column in _covered(j, self.target[1], columns)
            ]
            total = tokens[:, cell[0]].astype(np.float64)
            for token in cell[1:]:
                total += tokens[:, token]
            pooled[:, place] = total / len(cell)
        return pooled


def pooled_output(name: str, output: dict[str, Any], grid: Grid) -> dict[str, Any]:
    """The `output` of the space of pooled tokens; as it is where the network's grid is this one.

    Errors: UsageError where the network cuts fewer rows or columns, or its tokens form no known grid.
    """
    source = tuple(output.get("grid", ()))
    if len(source) != 2 or source[0] * source[1] != output["patches"]:
        raise UsageError(f"{name} doesn't say how its {output['patches']} tokens form a grid: leave out --pool-grid.")
    if grid == source:
        return output
    if grid[0] > source[0] or grid[1] > source[1]:
        raise UsageError(
            f"{name} has {source[0]}x{source[1]} tokens, which --pool-grid {grid[0]}x{grid[1]} can't average: "
            f"give at most {source[0]}x{source[1]}, or leave it out."
        )
    reduced = {"from": list(source), "by": "adaptive mean"}
    return {**output, "patches": grid[0] * grid[1], "grid": list(grid), "reduced": reduced}


def _covered(i: int, of: int, n: int) -> range:
    """Which of n the i-th of a coarser axis averages."""
    return range(i * n // of, -(-(i + 1) * n // of))
