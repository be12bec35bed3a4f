"""A person's session: windows get questions, answers go to the file at once, and every few answers all is fitted."""

import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt64

from bb.labeller.questions import Fit, Question, Read, fit
from bb.probe.labelling.active_learning.choose_images import RANDOM_SHARE, Strategy
from bb.probe.labelling.active_learning.label_file import LabelFile
from bb.store.errors import BBError


@dataclass(frozen=True)
class SessionSettings:
    """every: answers between two fits; random_share: of images that are drawn at random."""

    strategy: Strategy
    every: int = 10
    random_share: float = RANDOM_SHARE
    seed: int = 0


class Session:
    """Its methods may be called from any thread.

    file   where the answers go; written: what it calls images that it names otherwise than the collection, by row
    ids    image ID of each row of the collection; rows: of these that can be asked for, ascending
    order  a random order of all rows, the least are drawn first
    """

    def __init__(
        self,
        file: LabelFile,
        ids: list[str],
        rows: Any,
        read: Read,
        settings: SessionSettings,
        written: Mapping[int, str],
        order: UInt64[np.ndarray, " all"],
    ) -> None:
        self.file, self.ids, self.rows, self.read, self.settings = file, ids, rows, read, settings
        self._order = order
        self._written, self._row = written, {image_id: row for row, image_id in enumerate(ids)}
        self._row |= {name: row for row, name in written.items()}
        self._lock, self._fitter = threading.Lock(), ThreadPoolExecutor(1, "fit")
        self._labels = self._read_labels()
        self._skipped: set[int] = set()
        self._shown: dict[int, str] = {}  # row → the window that has it
        self._by: dict[int, str] = {}  # row → how it was chosen when it was last shown
        self._undo: dict[str, list[tuple[int, str | None, str | None]]] = {}
        self._since = 0
        self._future: Future[None] | None = None
        self.fit, self.failure = Fit(), ""
        self.refit()

    def refit(self, wait: bool = False) -> None:
        """Starts a fit, unless one is running."""
        with self._lock:
            if self._future is None or self._future.done():
                self._since = 0
                self._future = self._fitter.submit(self._fit)
            future = self._future
        if wait:
            future.result()

    def state(self) -> dict[str, Any]:
        """What the page shows next to the images, JSON-ready."""
        with self._lock:
            made, labels = self.fit, dict(self._labels)
            fitting = self._future is not None and not self._future.done()
        curve = made.curve
        return {
            "labelled": len(labels),
            "images": len(self.rows),
            "skipped": len(self._skipped),
            "classes": [[name, n] for name, n in _counts(labels).items()],
            "fitting": fitting,
            "failure": self.failure,
            "every": self.settings.every,
            "until_fit": max(self.settings.every - self._since, 0),
            "fitted": made.labels,
            "curve": [point.record() for point in curve.points] if curve else [],
            "forecast": [point.record() for point in curve.forecast] if curve else [],
            "curve_of": made.curve_of,
            "further": made.further,
        }

    def next(self, window: str, n: int) -> list[dict[str, Any]]:
        """Up to n questions for a window, those that it already has first. No other window has them, unless these are
        all that is left: a window that was closed keeps no image for itself."""
        with self._lock:
            done = self._labels.keys() | self._skipped
            left = len(self.rows) - sum(self._can_be_asked(row) for row in done)
            open_ = [q for q in self.fit.questions if q.row not in done]
            mine = [q for q in open_ if self._shown.get(q.row, window) == window][:n]
            if not mine and len(open_) == left:
                mine = open_[:n]
            self._shown = {row: owner for row, owner in self._shown.items() if owner != window}
            self._shown |= {q.row: window for q in mine}
            few = len(mine) < n and len(open_) < left
            items = [self._item(question) for question in mine]
        if few:
            self.refit()
        return items

    def answer(self, window: str, row: int, label: str) -> None:
        """The label is on disk when this returns. Errors: BBError."""
        self._check(row)
        by = self._by.get(row, "")
        before = self.file.answer(self._name(row), label, by)
        with self._lock:
            self._labels[row] = (label, by)
            self._undo.setdefault(window, []).append((row, before, label))
            self._since += 1
            due = self._since >= self.settings.every
        if due:
            self.refit()

    def skip(self, window: str, row: int) -> None:
        """The image is not asked for again in this session. Errors: BBError."""
        self._check(row)
        with self._lock:
            self._skipped.add(row)
            self._undo.setdefault(window, []).append((row, None, None))

    def undo(self, window: str) -> dict[str, Any]:
        """Takes a window's last answer or skip back, and gives its question. Errors: BBError where there is none."""
        with self._lock:
            if not self._undo.get(window):
                raise BBError("there is nothing to undo in this window.")
            row, before, label = self._undo[window].pop()
        if label is None:
            with self._lock:
                self._skipped.discard(row)
        else:
            now = self._read_labels().get(row, (None, ""))[0]
            if now != label:
                raise BBError(f"{self.ids[row]} is now {now!r}, by another window, and stays so.")
            self.file.answer(self._name(row), before)
            with self._lock:
                self._labels.pop(row, None)
                if before is not None:
                    self._labels[row] = (before, self._by.get(row, ""))
        with self._lock:
            question = next((q for q in self.fit.questions if q.row == row), Question(row, self._by.get(row, "")))
            self._shown[row] = window
            return self._item(question)

    def close(self) -> None:
        self._fitter.shutdown(cancel_futures=True)

    def _fit(self) -> None:
        try:
            with self._lock:  # while it is read: an answer that is on disk later is in memory later, too
                self._labels = labels = self._read_labels()
                skipped, shown = sorted(self._skipped), len(self._shown)
            labels = dict(labels)
            settings = self.settings
            n = max(4 * settings.every, 24) + shown
            seed = settings.seed + len(labels)
            made = fit(
                self.read, self.rows, labels, n, settings.strategy, settings.random_share, self._order, seed, skipped
            )
            with self._lock:
                self.fit, self.failure = made, ""
        except Exception as error:  # the page shows it, and answers are still written
            self.failure = str(error) or type(error).__name__

    def _read_labels(self) -> dict[int, tuple[str, str]]:
        found = self.file.labels()
        return {self._row[name]: label for name, label in found.items() if name in self._row}

    def _item(self, question: Question) -> dict[str, Any]:
        self._by[question.row] = question.by
        near = [{"image": row, "label": self._labels[row][0]} for row in question.neighbours if row in self._labels]
        return {
            "image": question.row,
            "id": self.ids[question.row],
            "by": question.by,
            "guesses": list(question.guesses),
            "neighbours": near,
        }

    def _can_be_asked(self, row: int) -> bool:
        at = int(np.searchsorted(self.rows, row))
        return at < len(self.rows) and bool(self.rows[at] == row)

    def _name(self, row: int) -> str:
        return self._written.get(row, self.ids[row])

    def _check(self, row: int) -> None:
        if not 0 <= row < len(self.ids):
            raise BBError(f"unknown image {row}.")


def _counts(labels: Mapping[int, tuple[str, str]]) -> dict[str, int]:
    """How many images each class has, in the order of first use, so that a class keeps its key."""
    found: dict[str, int] = {}
    for label, _ in labels.values():
        found[label] = found.get(label, 0) + 1
    return found
