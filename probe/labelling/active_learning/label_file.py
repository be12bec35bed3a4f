"""The CSV that `bb label` writes: every answer is on disk before it counts, and two windows lose none of each other's.

Writers take turns by a lock on a file of its own next to the table (.FILE.lock, flock), since a rename replaces the
table. An image without a row gets one by a single write with O_APPEND and fsync. A correction, a label for a row that
is there, and undo write the whole table aside, fsync it and rename it: a reader, such as a spreadsheet, sees one or the
other. Of two different answers about one image the later one counts.
"""

import csv
import errno
import fcntl
import io
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bb.probe.tables.missing_value import is_missing
from bb.probe.tables.table_file import SEPARATORS
from bb.probe.tasks.task_columns import assign
from bb.store.errors import BBError, UsageError
from bb.store.files.regular_file import irregular, open_regular, refuse_in_store, replace_file

HEADER = ("image_id", "label", "suggested_by")
LONGEST = 200  # characters of a label


@dataclass(frozen=True)
class LabelFile:
    """A table of labels that is being filled.

    id_column, label_column  what the table calls image_id and label
    not_missing              labels such as "NA", which would stand for a missing one
    """

    path: Path
    id_column: str = HEADER[0]
    label_column: str = HEADER[1]
    not_missing: Collection[str] = ()

    @classmethod
    def open(
        cls, path: Path, *, id: str | None = None, label: str | None = None, not_missing: Collection[str] = ()
    ) -> "LabelFile":
        """Makes the file where there is none, and a column for how images are chosen in a file without one.

        Raises UsageError or BBError where it can't be appended to.
        """
        if path.suffix.lower() != ".csv":
            raise UsageError(f"--labels {path} must end in .csv: answers are appended to it.")
        if not path.absolute().parent.is_dir():
            raise UsageError(f"--labels {path}: the folder {path.absolute().parent} does not exist. Make it first.")
        if path.exists() and not path.is_file():
            raise UsageError(f"--labels {path} is not a file: answers are appended to one. Name another.")
        refuse_in_store(path, f"--labels {path}")
        path = path.resolve()  # the file of a link, not the link, is locked, appended to and replaced
        with _locked(path):
            if not path.exists() or not path.stat().st_size:
                columns = (id or HEADER[0], label or HEADER[1], HEADER[2])
                replace_file(path, _CsvText(",", "\n", list(columns), [], b"").content())
            table = _CsvText.read(path)
            roles = assign(table.header, {"image_id": id, "label": label}, str(path))
            if "label" not in roles.columns:
                raise UsageError(f"{path} has traits; bb label takes one column of classes. Name it with --label.")
            if HEADER[2] not in table.header:
                replace_file(path, table.with_column(HEADER[2]).content())
        return cls(path, roles.columns["image_id"], roles.columns["label"], not_missing)

    def answer(self, image_id: str, label: str | None, suggested_by: str = "") -> str | None:
        """Writes a label, or takes it back with None; returns the label before. It is on disk when this returns.

        Raises BBError for a label that the table can't hold, or a table that was changed into something else.
        """
        if label is not None:
            check_label(label, self.not_missing)
        with _locked(self.path):
            table = _CsvText.read(self.path)
            try:
                id_at, label_at = table.header.index(self.id_column), table.header.index(self.label_column)
            except ValueError:
                raise BBError(f"{self.path} does not have the columns {self.id_column} and {self.label_column} any "
                              "more. Put them back.") from None  # fmt: skip
            places = [i for i, row in enumerate(table.rows) if row[id_at] == image_id]
            before = next((table.rows[i][label_at] for i in places if table.rows[i][label_at]), None)
            if label == before:
                return before
            values = {self.id_column: image_id, self.label_column: label or "", HEADER[2]: suggested_by}
            if not places:
                _append(self.path, table, [values.get(name, "") for name in table.header])
                return before
            by = table.header.index(HEADER[2]) if HEADER[2] in table.header else None
            for i in places:
                table.rows[i][label_at] = label or ""
                if by is not None and label is not None and not table.rows[i][by]:
                    table.rows[i][by] = suggested_by
            replace_file(self.path, table.content())
            return before

    def labels(self) -> dict[str, tuple[str, str]]:
        """Image ID → (label, how it was suggested), of rows with a label."""
        with _locked(self.path):
            table = _CsvText.read(self.path)
        rows = (dict(zip(table.header, row, strict=True)) for row in table.rows)
        return {
            row[self.id_column]: (label, row.get(HEADER[2], ""))
            for row in rows
            if (label := row.get(self.label_column, "").strip()) and not _missing(label, self.not_missing)
        }

    def image_ids(self) -> list[str]:
        """Of all rows, each once, as written; those without a label, too."""
        with _locked(self.path):
            table = _CsvText.read(self.path)
        at = table.header.index(self.id_column)
        return list(dict.fromkeys(row[at] for row in table.rows if row[at].strip()))


def check_label(label: str, not_missing: Collection[str] = ()) -> None:
    """Raises BBError for what a table of labels can't hold as a class."""
    if not label.strip():
        raise BBError("an empty label stands for a missing label: type a name.")
    if _missing(label.strip(), not_missing):
        raise BBError(
            f"{label!r} stands for a missing label: type a name, or start with --not-missing {label.strip()}."
        )
    if label != label.strip() or len(label) > LONGEST or not label.isprintable():
        raise BBError(f"a label is up to {LONGEST} printable characters without blanks around them.")
    if re.match(r"[=+@-]", label):
        raise BBError(f"{label!r} begins as a spreadsheet's formula does: begin it with a letter or a digit.")


def _missing(label: str, not_missing: Collection[str]) -> bool:
    return is_missing(label) and label not in not_missing


@dataclass(frozen=True)
class _CsvText:
    """A CSV as text. end: how lines end; mark: a byte order mark, or none."""

    separator: str
    end: str
    header: list[str]
    rows: list[list[str]]
    mark: bytes

    @classmethod
    def read(cls, path: Path) -> "_CsvText":
        try:
            with open_regular(path) as file:
                raw = file.read()
        except OSError as error:  # a pipe in its place, for one, would be waited for by all windows
            raise BBError(
                f"{path} can't be read ({error.strerror}). Nothing was saved: see to the file, and try again."
            ) from None
        mark = b"\xef\xbb\xbf" if raw.startswith(b"\xef\xbb\xbf") else b""
        try:
            text = raw[len(mark) :].decode("utf-8")
        except UnicodeDecodeError:
            raise BBError(f"{path} is not UTF-8, so nothing is appended to it. Save it as CSV UTF-8.") from None
        first, end = re.match(r"([^\r\n]*)(\r\n|\r|\n|)", text).groups()  # type: ignore[union-attr]
        separator = max(SEPARATORS, key=first.count)
        try:
            rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True) if row]
        except csv.Error as error:
            raise BBError(f"{path} can't be read ({error}). Fix its quotation marks.") from None
        if not rows or any(len(row) != len(rows[0]) for row in rows):
            raise BBError(f"{path} has rows with other numbers of cells than its header. Fix them, or export it again.")
        return cls(separator, end or "\n", rows[0], rows[1:], mark)

    def with_column(self, name: str) -> "_CsvText":
        """An empty one at the end."""
        return replace(self, header=[*self.header, name], rows=[[*row, ""] for row in self.rows])

    def line(self, row: list[str]) -> bytes:
        made = io.StringIO(newline="")
        csv.writer(made, delimiter=self.separator, lineterminator=self.end).writerow(row)
        return made.getvalue().encode()

    def content(self) -> bytes:
        return self.mark + b"".join(self.line(row) for row in [self.header, *self.rows])


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Waits for its turn. Errors: BBError where the lock can't be made, or it or the table is a link or no file."""
    name = path.with_name(f".{path.name}.lock")
    try:
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        why = "it is a link" if error.errno == errno.ELOOP else error.strerror
        raise BBError(f"{name} can't be opened ({why}), so nothing can be written to {path}. Remove it, or name a file "
                      "in a folder of yours.") from None  # fmt: skip
    try:
        if why := irregular(os.fstat(lock).st_mode):
            raise BBError(f"{name} {why}, so nothing can be written to {path}. Remove it.")
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.is_symlink():  # an append would follow it, a correction replace it; who opens the link locks its target
            raise BBError(f"{path} has become a link. Nothing was saved: put the table back, or start bb label again.")
        yield
    finally:
        os.close(lock)


def _append(path: Path, table: _CsvText, row: list[str]) -> None:
    """All of the line, or none of it. Errors: BBError."""
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            size = os.fstat(file).st_size
            unended = size and os.pread(file, 1, size - 1) not in (b"\n", b"\r")
            line = (table.end.encode() if unended else b"") + table.line(row)
            try:
                if os.write(file, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file)
            except OSError:
                os.ftruncate(file, size)
                raise
        finally:
            os.close(file)
    except OSError as error:
        raise BBError(
            f"{path} can't be written ({error.strerror}): the answer is not saved. Make room, or let the file be "
            "written to, and answer again."
        ) from None


def counts(labels: Mapping[str, tuple[str, str]]) -> dict[str, int]:
    """How many images each class has, the commonest first."""
    found: dict[str, int] = {}
    for label, _ in labels.values():
        found[label] = found.get(label, 0) + 1
    return dict(sorted(found.items(), key=lambda each: (-each[1], each[0])))
