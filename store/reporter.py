"""Where a library call reports its progress: nowhere, unless the caller passes an object; `Bar` draws in a notebook."""

from html import escape
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Reporter(Protocol):
    """What a call reports while it works. Methods may be called from several threads."""

    def info(self, message: str) -> None:
        """Something that a reader of the result should know."""

    def progress(self, task: str, done: int, total: int, unit: str) -> None:
        """How far a task is; it is finished once `done` is `total`. The unit "B" means bytes."""


class Silent:
    """Fulfils Reporter and shows nothing."""

    def info(self, message: str) -> None:
        pass

    def progress(self, task: str, done: int, total: int, unit: str) -> None:
        pass


class Bar:
    """Fulfils Reporter in a notebook: a bar for each task and a line for each message, below the cell."""

    def __init__(self) -> None:
        self._handles: dict[str, Any] = {}

    def info(self, message: str) -> None:
        from IPython.display import HTML, display

        display(HTML(f"<div>{escape(message)}</div>"))

    def progress(self, task: str, done: int, total: int, unit: str) -> None:
        from IPython.display import HTML, display

        words = f"{escape(task)} {done} of {total} {escape(unit)}"
        bar = HTML(f'<div><progress value="{done}" max="{total}"></progress> {words}</div>')
        if task in self._handles:
            self._handles[task].update(bar)
        else:
            self._handles[task] = display(bar, display_id=True)
