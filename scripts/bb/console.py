"""What bb prints: results to standard output; progress, notes and warnings to standard error."""

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bb.store.text.size import size_text

MIN_SECONDS = 1.0  # of work, before a rate means something


def say(*lines: object) -> None:
    """Results, to standard output."""
    from bb.store.text.printable import printable_lines

    for line in lines:
        print(printable_lines(line))


def warn(*lines: object) -> None:
    """Progress, warnings and everything that is not the result, to standard error."""
    from bb.store.text.printable import printable_lines

    for line in lines:
        print(printable_lines(line), file=sys.stderr)


def show_json(value: Any) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=sys.stdout.isatty(), allow_nan=False)
    # JSON allows control characters above U+007F and half surrogate pairs; a terminal that shows a pipe does not.
    print("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """A table as wide as the terminal, or as it needs where nobody looks at it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from bb.store.text.printable import printable

    console = Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row))
    for line in console.render_lines(table, pad=False):
        console.print(Text.assemble(*((segment.text, segment.style or "") for segment in line)), soft_wrap=True)


class Progress:
    """Progress on standard error: a bar with rate and time left on a terminal, a line every ten seconds elsewhere.

    The unit "B" means bytes, shown as 12.3 MB. A rate is shown once it is over a second of work: what came before the
    first call may have been a start (such as a compilation).
    """

    def __init__(self, what: str, total: int, unit: str) -> None:
        from bb.store.text.printable import printable

        self.what, self.total, self.unit = printable(what), total, unit
        self.shown_at = time.monotonic()
        self.first: tuple[float, int] | None = None
        self.bar: Any = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )  # fmt: skip

            columns = (
                TextColumn("{task.description}", markup=False), BarColumn(),
                DownloadColumn() if unit == "B" else MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
            )  # fmt: skip
            self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self.task = self.bar.add_task(self.what, total=total, rate="")

    def __enter__(self) -> "Progress":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()

    def __call__(self, done: int, total: int | None = None) -> None:
        """How many are done, and of how many, should that turn out on the way."""
        now, self.total = time.monotonic(), total or self.total
        if self.first is None:
            self.first = (now, done)
        since, before = self.first
        rate = (done - before) / (now - since) if now - since >= MIN_SECONDS else 0.0
        in_bytes = self.unit == "B"
        shown = "" if not rate else f"{size_text(rate)}/s" if in_bytes else f"{rate:.1f} {self.unit}/s"
        if self.bar:
            self.bar.update(self.task, completed=done, total=self.total, rate=shown)
        elif rate and now - self.shown_at >= 10:
            self.shown_at = now
            parts = f"{size_text(done)} of {size_text(self.total)}" if in_bytes else f"{done}/{self.total} {self.unit}"
            warn(f"{self.what}: {parts}, {shown}, {(self.total - done) / rate:.0f} s left")


class ConsoleReporter:
    """Fulfils bb.store.reporter.Reporter on standard error. Leaving the context removes bars of unfinished tasks.

    before  what each message begins with
    """

    def __init__(self, before: str = "") -> None:
        self.before = before
        self._open: dict[str, Progress] = {}

    def __enter__(self) -> "ConsoleReporter":
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            self._open.popitem()[1].__exit__()

    def info(self, message: str) -> None:
        warn(f"{self.before}{message}")

    def progress(self, task: str, done: int, total: int, unit: str) -> None:
        if task not in self._open:
            self._open[task] = Progress(task, total, unit).__enter__()
        self._open[task](done, total)
        if done >= total:
            self._open.pop(task).__exit__()


@contextmanager
def stop_gracefully(
    words: str = "stopping after this batch; what is embedded will be kept",
) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or SIGTERM, as Slurm sends it) sets; the second Ctrl-C quits."""
    stop = threading.Event()

    def first(number: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        warn(f"{words} (Ctrl-C again quits at once)")

    before = {number: signal.signal(number, first) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
