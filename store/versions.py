"""Versions of installed distributions, as provenance records them."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version


def installed(distribution: str) -> str | None:
    """The version of a distribution, None where it is not installed (bb itself may run from a bare checkout)."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """Distribution → version, of those that are installed."""
    found = {distribution: installed(distribution) for distribution in distributions}
    return {distribution: number for distribution, number in found.items() if number}
