"""Text from data (labels, image IDs, file names, provenance) as it is safe to show in a terminal."""


def printable(text: object) -> str:
    """One line without control characters, so that a name from someone's data can't steer a terminal or forge a line.

    Line breaks become spaces; other characters that are not printable (escape sequences, bidirectional overrides,
    half surrogate pairs) become U+FFFD.
    """
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text).replace("\n", " "))


def printable_lines(text: object) -> str:
    """The same of a text of several lines, which stay."""
    return "\n".join(map(printable, str(text).split("\n")))
