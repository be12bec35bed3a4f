"""Shards for tests: small pictures, tar archives of them as WebDataset writes them, and image tables."""

import io
import tarfile
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image


def picture(seed: int, format: str = "JPEG") -> bytes:
    """A small picture's file, each seed another."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, format)
    return buffer.getvalue()


def pictures(n: int, first: int = 0) -> dict[str, bytes]:
    """Path → file, with a folder among the paths."""
    return {f"{'deep/' * (i % 2)}{i:05d}.jpg": picture(i) for i in range(first, first + n)}


def write_tar(path: Path, files: dict[str, bytes | tarfile.TarInfo], *, beside: bool = True) -> Path:
    """An archive of files; with `beside`, each image with the .cls and .json that WebDataset lays there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            if isinstance(data, tarfile.TarInfo):
                tar.addfile(data)
                continue
            stem = name.rpartition(".")[0]
            for each, content in [(name, data), *([(f"{stem}.cls", b"3"), (f"{stem}.json", b"{}")] if beside else [])]:
                info = tarfile.TarInfo(each)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def write_table(path: Path, images: list[tuple[bytes | None, str | None] | None], *, column: str = "image") -> Path:
    """An image table of (bytes, path), ten rows to a group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = pl.Struct({"bytes": pl.Binary(), "path": pl.String()})
    cells = [cell and {"bytes": cell[0], "path": cell[1]} for cell in images]
    frame = pl.DataFrame({column: pl.Series(cells, dtype=kind), "label": range(len(cells))})
    frame.write_parquet(path, row_group_size=10)
    return path
