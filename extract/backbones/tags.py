"""Which pretrained tag a file of weights is like, where that makes a difference."""

from collections.abc import Mapping
from typing import Any

from bb.extract.backbones.name import BackboneName
from bb.store.errors import UsageError


def require_agreement(name: BackboneName, recipes: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises UsageError unless all tags of an architecture prepare images alike and compute alike.

    A file names neither its normalisation nor its activation, and with another one its features are wrong.

    recipes: tag -> what decides features apart from the weights, by name
    """
    fields = list(dict.fromkeys(field for recipe in recipes.values() for field in recipe))
    differing = [field for field in fields if len({recipe[field] for recipe in recipes.values()}) > 1]
    if not differing:
        return
    groups: dict[str, list[str]] = {}
    for tag, recipe in recipes.items():
        groups.setdefault(", ".join(f"{field} {_text(recipe[field])}" for field in differing), []).append(tag)
    mark = "/" if name.org == "open_clip" else "."
    lines = [f"  {', '.join(tags)}: {described}" for described, tags in groups.items()]
    example = f"{name.org}:{name.architecture}{mark}{next(iter(recipes))}@{name.path}"
    raise UsageError(
        f"{name}: the pretrained tags of {name.architecture} differ in {', '.join(differing)}, and a file does not "
        f"say which of them it needs. Add the tag that was trained as the file was, for example {example}\n"
        + "\n".join(lines)
    )


def _text(value: object) -> str:
    if not isinstance(value, tuple):
        return str(value)
    same = len(set(value)) == 1 and not isinstance(value[0], float)
    return str(value[0]) if same else "(" + ", ".join(f"{number:.4g}" for number in value) + ")"
