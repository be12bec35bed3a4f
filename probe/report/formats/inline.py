"""A page inside a notebook: the same figures as `--html`, where a cell's outcome is shown."""

import html

HEIGHT = 720  # pixels


def inline(page: str, title: str) -> str:
    """HTML that shows a whole page in a frame of its own: neither its styles nor those of the notebook reach the other.

    The frame runs the page's own script alone, which its policy names by hash, as in a file; it has no access to the
    notebook.
    """
    return (
        f'<iframe title="{html.escape(title)}" sandbox="allow-scripts" srcdoc="{html.escape(page)}" '
        f'style="width: 100%; height: {HEIGHT}px; border: 0"></iframe>'
    )
