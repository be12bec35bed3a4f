"""Bytes and counts in words."""


def size_text(n_bytes: int | float) -> str:
    """12345678 -> 12.3 MB, in powers of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


def counted(n: int, what: str) -> str:
    """ "1 clip", "3 clips"."""
    return f"{n} {what}{'s' * (n != 1)}"
