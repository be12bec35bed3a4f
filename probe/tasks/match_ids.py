"""A task table on a collection: which row is of which image, what is left over on either side."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from bb.probe.tasks.task_table import TaskTable
from bb.store.errors import BBError
from bb.store.text.image_ids import IdMatch, explain, match_ids
from bb.store.text.lookalike import shown


@dataclass(frozen=True, eq=False)
class TableMatch:
    """table with the collection's image IDs, of those rows alone that have an image.

    match               how many IDs were matched in which way
    rows_without_image  the table's image IDs that fit no image, as written, sorted
    images_without_row  the collection's image IDs that no row names, sorted
    """

    table: TaskTable
    match: IdMatch
    rows_without_image: tuple[str, ...] = ()
    images_without_row: tuple[str, ...] = field(default=(), repr=False)

    @property
    def notes(self) -> list[str]:
        """How the IDs were matched and what is left over, for a person."""
        left = (("row", self.rows_without_image, "no image"), ("image", self.images_without_row, "no row"))
        return [
            *([self.match.note] if self.match.note else []),
            *(
                f"{len(ids)} {what}{'s' * (len(ids) > 1)} with {lacking}, such as {shown(ids[0])}; "
                "`bb probe classify -v` lists all"
                for what, ids, lacking in left
                if ids
            ),
        ]


def match_table(table: TaskTable, image_ids: Sequence[str], of: str = "the collection") -> TableMatch:
    """Finds the rows of a table among a collection's images, by the ways of `store.text.image_ids`.

    of  what the collection is called in messages
    Errors: BBError where an ID fits several images, two fit one, no row has an image, or the rows that have one leave
    a task without labels.
    """
    match = match_ids(table.image_ids, image_ids, of)
    named = set(match.ids) - set(match.unmatched)
    if not named:
        hint = explain(match.unmatched, image_ids) or (
            f"Asked for {shown(table.image_ids[0])}, {of} has {shown(min(image_ids))}." if image_ids else "It is empty."
        )
        raise BBError(f"{table.source}: none of {len(match.ids)} image IDs is in {of}. {hint}")
    frame = table.frame
    if match.unmatched:
        frame = frame.filter(~pl.col("image_id").is_in(list(match.unmatched)))
    if match.names:
        frame = frame.with_columns(pl.col("image_id").replace(match.names))
    labelled = frame.filter(~pl.all_horizontal(pl.col(table.label_columns).is_null()))
    if lost := sorted(set(table.tasks) - set(labelled["task"])):
        raise BBError(f"{table.source}: no labelled image of task {lost[0]!r} is in {of}. Leave the task out, or "
                      f"add its images to {of}.")  # fmt: skip
    unnamed = tuple(sorted(set(image_ids) - named))
    return TableMatch(table.with_frame(frame), match, tuple(sorted(match.unmatched)), unnamed)
