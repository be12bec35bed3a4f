"""Which column of someone's table holds what: by the contract's own name, by a usual one, or as a person says."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from bb.probe.tables.missing_value import column_name
from bb.store.errors import UsageError
from bb.store.text.lookalike import shown

TRAIT = "label:"  # begins the name of a column that says of each image whether it has a trait
CORNERS = ("x1", "y1", "x2", "y2")
# Role → the names that tables also give it; compared in lower case, with _ for blanks, dots and hyphens.
USUAL = {
    "image_id": "id imageid img_id image img image_name imagename image_file img_name filename file_name file filepath "
    "file_path path image_path imagepath img_path relative_path relativepath photo photo_id dateiname datei bild "
    "fichier",
    "label": "labels class class_name classname category species taxon taxon_name scientific_name scientificname "
    "target art espece espèce",
    "task": "",
    "split": "subset partition fold_split",
    "group": "group_id individual individual_id sequence sequence_id seq_id observation observation_id observationid "
    "burst burst_id event_id video video_id clip clip_id",
    "site": "site_id location location_id camera camera_id station deployment deployment_id standort lieu",
    "date": "datetime date_time timestamp captured_at capture_date visit_date observed_on eventdate event_date datum",
    "weight": "weights sample_weight",
    "suggested_by": "",
    "crop": "bbox box bounding_box",
}
REQUIRED = ("image_id", "label")
OPTIONS = {"image_id": "--id", "label": "--label", "task": "--task", "split": "--split", "group": "--group"}
_ROLES = {name: role for role, names in USUAL.items() for name in (role, *names.split())}


@dataclass(frozen=True)
class Roles:
    """columns: role → the file's column, `label:<trait>` for a trait; notes: what could not be chosen."""

    columns: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def traits(self) -> tuple[str, ...]:
        """The roles that begin with `label:`, in the file's order."""
        return tuple(role for role in self.columns if role.startswith(TRAIT))


def candidates(header: Sequence[str], named: Collection[str]) -> set[str]:
    """The columns of a header that are named, or that could have some role."""
    return {name for name in header if name in named or name in CORNERS or _role(name)}


def assign(
    header: Sequence[str],
    named: Mapping[str, str | Sequence[str] | None],
    source: str,
    required: Sequence[str] = REQUIRED,
) -> Roles:
    """The column of each role.

    named  role → the column that a person names, several for the traits of `label`, "" for none; None: find it. A
           column that is called as the role goes before those with other usual names.
    Errors: UsageError for a named column that the header does not have, for two columns that could be an ID, a label, a
    split, a group or a task, and where there is none of a `required` role.
    """
    found: dict[str, str] = {}
    notes: list[str] = []
    for role in USUAL:
        words = named.get(role)
        if words is not None:
            chosen = [words] if isinstance(words, str) else list(words)
            _check_named(header, role, [word for word in chosen if word], source)
            if role == "label" and (len(chosen) > 1 or chosen[0].startswith(TRAIT)):
                found.update(_traits(chosen, source))
            elif chosen[0]:
                found[role] = chosen[0]
            continue
        traits = [name for name in header if name.lower().startswith(TRAIT)] if role == "label" else []
        taken = [each for each in named.values() if isinstance(each, str)]
        fitting = [name for name in header if _role(name) == role and name not in traits and name not in taken]
        own = [name for name in fitting if _plain(name) == role]
        if traits and own:
            raise UsageError(
                f"{source} has both {own[0]!r} and {traits[0]!r}: is it one class an image, or several traits? Choose "
                f"with --label {own[0]}, or take {own[0]!r} out."
            )
        if traits:
            found.update(_traits(traits, source))
            continue
        fitting = own or fitting
        if len(fitting) > 1:
            listed = " and ".join(map(shown, fitting[:2])) + (f" and {len(fitting) - 2} more" * (len(fitting) > 2))
            if role in OPTIONS:
                none = "" if role in REQUIRED else f", or {OPTIONS[role]} '' for none"
                raise UsageError(
                    f"{source} has {listed}, each of which could be the {role}. Choose with {OPTIONS[role]} "
                    f"{_quoted(fitting[0])}{none}."
                )
            notes.append(f"{listed} could be the {role}, so none is taken: call one of them {role!r}")
        elif fitting:
            found[role] = fitting[0]
    for role in required:
        if role not in found and not (role == "label" and any(name.startswith(TRAIT) for name in found)):
            has = ", ".join(map(shown, header[:20])) or "none"
            file = next((name for name in header if _FILE.search(name)), None)
            hint = f" {shown(file)} looks like an image: is a header such as image_id,label missing?" if file else ""
            raise UsageError(f"{source} has no column for the {role}; its columns are {has}. Choose with "
                             f"{OPTIONS[role]} COLUMN.{hint}")  # fmt: skip
    return Roles(found, tuple(notes))


_FILE = re.compile(r"\.(jpe?g|png|tiff?|webp|bmp|gif)$", re.IGNORECASE)


def _traits(columns: Sequence[str], source: str) -> dict[str, str]:
    """Columns by trait. Errors: UsageError where a trait has two of them, or no name."""
    found: dict[str, str] = {}
    for column in columns:
        trait = (column[len(TRAIT) :] if column.lower().startswith(TRAIT) else column).strip()
        if not trait:
            raise UsageError(f"{source}: the column {column!r} names no trait: call it label:NAME.")
        if (other := found.setdefault(TRAIT + trait, column)) != column or columns.count(column) > 1:
            raise UsageError(f"{source}: {shown(other)} and {shown(column)} are both the trait {shown(trait)}. Keep "
                             "one of them.")  # fmt: skip
    return found


def _check_named(header: Sequence[str], role: str, chosen: Sequence[str], source: str) -> None:
    for word in chosen:
        if word not in header:
            near = [name for name in header if _plain(name) == _plain(word)]
            has = (
                f"did you mean {shown(near[0])}?" if near else f"its columns are {', '.join(map(shown, header[:20]))}."
            )
            raise UsageError(f"{source} has no column {word!r}, which is asked for as the {role}; {has}")


def _role(name: str) -> str | None:
    return "label" if name.lower().startswith(TRAIT) else _ROLES.get(_plain(name))


def _plain(name: str) -> str:
    return re.sub(r"[\s.\-]+", "_", column_name(name).casefold())


def _quoted(name: str) -> str:
    return f"'{name}'" if re.search(r"[^\w:.-]", name) else name
