"""Animals with Attributes 2: 85 traits of 50 kinds of mammals, tested on ten kinds that nothing was trained on."""

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from bb.probe.tables.table_file import TableFile
from bb.probe.tasks.families.layout import (
    LayoutPart,
    absent,
    base_of,
    entries,
    image_files,
    plain_name,
    require,
    table_of,
)
from bb.probe.tasks.families.word_file import read_words
from bb.probe.tasks.family import About
from bb.probe.tasks.task_columns import TRAIT
from bb.probe.tasks.task_table import TaskTable
from bb.store.errors import BBError
from bb.store.format.collection import some
from bb.store.storage.download import Archive

PARTS = (
    LayoutPart(("JPEGImages",), "a folder for each class", folder=True),
    LayoutPart(("classes.txt",), "number and name of each class"),
    LayoutPart(("predicates.txt",), "number and name of each trait"),
    LayoutPart(("predicate-matrix-binary.txt",), "a line of 0 and 1 for each class"),
    LayoutPart(("trainclasses.txt",), "the classes to train on"),
    LayoutPart(("testclasses.txt",), "the classes to test on"),
)
UNPACKED = "Animals_with_Attributes2"


@dataclass(frozen=True)
class AwA2:
    """Traits belong to classes, so an interval's unit is the class. Fulfils bb.probe.tasks.family.DescribedFamily."""

    title: str
    about: About
    archives: tuple[Archive, ...] = field(default=())

    def check(self, root: Path) -> list[str]:
        """See DescribedFamily."""
        return absent(base_of(root, UNPACKED)[0], PARTS)

    def labels(self, root: Path) -> TaskTable:
        """See TaskFamily. Errors: UsageError for another layout; BBError naming file and line of what is wrong."""
        base, before = base_of(root, UNPACKED)
        images, classes, predicates, matrix, train, test = require(base, PARTS)
        names = _distinct(read_words(classes, ["number", "class"]), "class")
        traits = _distinct(read_words(predicates, ["number", "trait"]), "trait")
        values = _matrix(matrix, names, traits)
        side = {name: side for side, path in (("train", train), ("test", test)) for name in _listed(path, names)}
        rows = [
            (image_id, name, side[name], *values[name])
            for name in names
            if name in side and (images / name).is_dir()
            for image_id in image_files(images / name, f"{before}{images.name}/{plain_name(name)}/")
        ]
        if not rows:
            there = ", ".join(entry.name for entry in entries(images)[:3]) or "nothing"
            raise BBError(f"{images} has {there}, and no images of a class of {train.name} or {test.name}.")
        columns = ["image_id", "group", "split", *(TRAIT + trait for trait in traits)]
        frame = pl.DataFrame(dict(zip(columns, zip(*rows, strict=True), strict=True)))
        lacking = [name for name in side if not (images / name).is_dir()]
        notes = [f"{len(lacking)} of {len(side)} classes have no folder in {images.name}/: {some(lacking)}"]
        return table_of(frame, str(base), notes if lacking else [])


def _distinct(table: TableFile, column: str) -> list[str]:
    again = table.frame.filter(~pl.col(column).is_first_distinct())
    table.refuse(again, lambda row: f"{column} {row[column]!r} stands on an earlier line already; keep one")
    return table.frame[column].to_list()


def _listed(path: Path, known: list[str]) -> list[str]:
    table = read_words(path, ["class"])
    table.refuse(
        table.frame.filter(~pl.col("class").is_in(known)),
        lambda row: f"class {row['class']!r} is not in classes.txt",
    )
    return table.frame["class"].to_list()


def _matrix(path: Path, classes: list[str], traits: list[str]) -> dict[str, tuple[int, ...]]:
    """Class → 0 or 1 for each trait. Errors: BBError."""
    table = read_words(path, [f"{place}" for place in range(len(traits))])
    for row in table.frame.iter_rows(named=True):
        line, *cells = row.values()
        if strange := next((cell for cell in cells if cell not in ("0", "1")), None):
            raise BBError(f"{path}, line {line}: it has {strange!r}, where it needs {len(traits)} numbers 0 or 1, one "
                          "for each line of predicates.txt.")  # fmt: skip
    if table.frame.height != len(classes):
        raise BBError(f"{path} has {table.frame.height} lines, and classes.txt {len(classes)}. Fetch them again.")
    rows = table.frame.drop(table.frame.columns[0]).cast(pl.Int8).iter_rows()
    return dict(zip(classes, rows, strict=True))


AWA2 = AwA2(
    "AwA2: 85 traits of mammals, tested on ten kinds without training images",
    About(
        needs="JPEGImages/CLASS/*.jpg, classes.txt, predicates.txt, predicate-matrix-binary.txt, trainclasses.txt and "
        "testclasses.txt",
        size="37,322 images, 50 classes, 85 traits",
        home="https://cvml.ista.ac.at/AwA2/",
        citation="""@article{xian2019zero,
  title = {Zero-Shot Learning---A Comprehensive Evaluation of the Good, the Bad and the Ugly},
  author = {Xian, Yongqin and Lampert, Christoph H. and Schiele, Bernt and Akata, Zeynep},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},
  year = {2019}
}""",
        metrics=("macro_f1",),
        published="BioCLIP 2: a network of one hidden layer, macro-F1 over traits",
        protocols=("bioclip2-awa2",),
    ),
)
