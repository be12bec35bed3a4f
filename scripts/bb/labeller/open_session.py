"""From a store, a file of labels and the images to a session."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bb.labeller.images import Pictures
from bb.labeller.session import Session, SessionSettings
from bb.probe.features.missing import MissingPolicy
from bb.probe.features.select_spaces import choose_spaces
from bb.probe.labelling.active_learning.choose_images import RANDOM_SHARE, Strategy, random_order
from bb.probe.labelling.active_learning.label_file import LabelFile
from bb.probe.labelling.active_learning.suggest import best_space
from bb.store import BBError, Store
from bb.store.reporter import Reporter, Silent
from bb.store.text import lookalike
from bb.store.text.image_ids import match_ids

if TYPE_CHECKING:
    from bb.extract.data.source_spec import Root


def open_session(
    store: Store,
    labels: Path,
    name: str,
    root: "Root",
    *,
    strategy: Strategy,
    random_share: float = RANDOM_SHARE,
    every: int = 10,
    id: str | None = None,
    label: str | None = None,
    not_missing: Sequence[str] = (),
    ckpt: Sequence[str] = (),
    space: Sequence[str] = (),
    max_missing: float | None = None,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> tuple[Session, Pictures]:
    """Errors: UsageError and BBError, which name what to change."""
    reporter = reporter or Silent()
    collection = store.collection(name, [])
    ids = collection.table["image_id"].to_list()
    spaces = choose_spaces(
        store, collection, ids, backbones=list(ckpt), keys=list(space),
        missing=MissingPolicy.parse("skip", max_missing, None),
    )  # fmt: skip
    pictures, digests = Pictures.open(collection, root), collection.all_digests()
    shown = np.array([pictures.has(row) for row in range(len(ids))], bool)
    spaces = [each for each in spaces if (store.has(each, digests) & shown).any()]
    if not spaces:
        raise BBError(f"no image of {name} has both features and a file: run bb extract, or choose with --ckpt.")
    file = LabelFile.open(labels, id=id, label=label, not_missing=not_missing)
    given = file.labels()
    match = match_ids(file.image_ids(), ids, name)  # of rows without a label, too: the answer goes there
    if absent := given.keys() & set(match.unmatched):
        reporter.info(f"{len(absent)} labelled rows have no image in {name}")
    known = {match.names.get(each, each): label for each, (label, _) in given.items() if each not in absent}
    notes = lookalike.notes("label", known.values())
    y = np.unique(list(known.values()), return_inverse=True)[1].astype(np.int64)
    chosen = best_space(store, collection, spaces, list(known), y, digests, notes)
    for note in notes:
        reporter.info(note)
    rows = np.flatnonzero(store.has(chosen, digests) & shown)
    row_of = {image_id: row for row, image_id in enumerate(ids)}
    written = {row_of[known]: given for given, known in match.names.items()}

    def read(wanted: Any) -> Any:
        return store.read(chosen, collection, [ids[row] for row in wanted])

    order = random_order(digests, seed)
    return Session(
        file, ids, rows, read, SessionSettings(strategy, every, random_share, seed), written, order
    ), pictures
