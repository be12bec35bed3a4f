"""What `bb data check --duplicates` says: counts, examples, and all pairs with -v or in a file."""

from pathlib import Path
from typing import TYPE_CHECKING

from bb.console import say, warn

if TYPE_CHECKING:
    from bb.probe.classification.duplicate_images import DuplicateImages

EXAMPLES = 5


def show_duplicates(found: "DuplicateImages", backbone: str, *, csv: Path | None, verbose: bool) -> None:
    """Counts and examples on standard output, notes on standard error; writes the file where one is named."""
    from bb.probe.report.formats.frame_csv import to_csv
    from bb.texts.report import write_file

    name, pairs = found.collection.name, found.pairs
    if found.missing:
        image_id, why = next(iter(found.missing.items()))
        warn(f"note: {len(found.missing)} images without features are not compared, such as {image_id!r} ({why})")
    if csv:
        text = to_csv(pairs)
        if str(csv) == "-":
            print(text, end="")
            return
        write_file(csv, text.encode())
    images = len({*pairs["image_id"], *pairs["other"]})
    say(
        f"{name}: {found.n} images compared by {backbone}, cosine {found.cosine:g} or more: {len(pairs)} pairs of "
        f"{images} images look alike, {found.same_file} of them equal files"
    )
    if "side" in pairs.columns and pairs["side"].null_count() < len(pairs):
        say(f"  {len(found.across)} pairs of a training image and one that is tested or validated on")
    if "label" in pairs.columns:
        say(f"  {len(found.other_labels)} pairs with different labels")
    first, seen = (found.across, "across sides") if len(found.across) else (pairs, "")
    shown = pairs if verbose else first.head(EXAMPLES)
    if len(shown) and not verbose:
        say(f"  such as{f' ({seen})' if seen else ''}:")
    say(*(_line(row) for row in shown.iter_rows(named=True)))
    if len(pairs) > len(shown):
        say(f"  -v lists all {len(pairs)}, --csv FILE writes them")


def _line(row: "dict[str, object]") -> str:
    def image(name: str, label: str, side: str) -> str:
        facts = ", ".join(str(row[key]) for key in (label, side) if row.get(key) is not None)
        return f"{row[name]}{f' ({facts})' if facts else ''}"

    alike = "equal files" if row["same_file"] else f"{row['cosine']:.3f}"
    return f"  {alike}  {image('image_id', 'label', 'side')}  {image('other', 'other_label', 'other_side')}"
