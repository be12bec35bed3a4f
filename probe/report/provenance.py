"""Where a figure comes from: its runs, what made them, and the command that makes them again.

run.json is untrusted input. What is not of the type it should be is refused before anything is computed of it (see
bb.probe.run_records), and a command is put together from fields that match what the command line takes; a stored
command line is never repeated.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bb.probe.classifiers.protocol import PROTOCOLS, kind_of
from bb.probe.features.extraction import Cost
from bb.probe.features.missing import max_missing_of, same_images_of
from bb.probe.report.paper import versions_of
from bb.probe.tasks.few_shot import NTrain
from bb.store.local.runs import Run
from bb.store.text.command import command, extract_command

_NAME = re.compile(r"(?![.-])[A-Za-z0-9._-]{1,100}")
_CKPT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}")
_BACKENDS = ("exact", "sklearn", "cuml")


@dataclass(frozen=True)
class Made:
    """One run behind a cell."""

    run_id: str
    digest: str
    seed: int | None
    made: str
    commit: str


@dataclass(frozen=True)
class Origin:
    """What a cell was made of.

    pooling    how the network makes a vector of its map or tokens; None in runs that do not record it
    extracted  the versions and devices that the features were embedded with, each distinct set once
    cost       of the network and its features, as far as recorded
    parameters of the protocol and its classifiers, as the runs record them
    command    makes the runs again from a store with the features; None where a field is not a word of the command line
    extract    makes the features again; None likewise
    """

    runs: tuple[Made, ...]
    backbones: tuple[str, ...]
    space: str
    collection: str
    protocol: str
    classifier: str
    backend: str
    n_train: NTrain
    pooling: str | None
    versions: tuple[str, ...]
    devices: tuple[str, ...]
    extracted: tuple[str, ...]
    command: str | None
    extract: str | None
    cost: Cost
    parameters: Mapping[str, Any]

    @property
    def seeds(self) -> tuple[int | None, ...]:
        return tuple(run.seed for run in self.runs)


def origin(runs: Sequence[Run]) -> Origin:
    """Of the runs of one cell, which differ in their seeds alone."""
    first = runs[0].record
    provenances = [run.record["provenance"] for run in runs]
    extraction = [e for p in provenances for e in _list(p.get("extraction")) if isinstance(e, dict)]
    backends = {f"{run.record['backend']} {run.record.get('backend_version') or ''}".strip() for run in runs}
    return Origin(
        runs=tuple(
            Made(run.run_id, run.digest, run.record["seed"], str(p["made"]), str(p.get("commit") or ""))
            for run, p in zip(runs, provenances, strict=True)
        ),
        backbones=tuple(first["backbones"]),
        space=first["space"],
        collection=f"{first['collection_name']}@{first['collection']}",
        protocol=first["protocol"],
        classifier=first["classifier"],
        backend=", ".join(sorted(backends)),
        n_train=first["n_train"],
        pooling=first.get("pooling"),
        versions=_distinct(map(versions_of, provenances)),
        devices=_distinct(str(e["device"]) for e in extraction if e.get("device")),
        extracted=_distinct(_facts(e) for e in extraction),
        command=_probe(runs),
        extract=_extract(first),
        cost=Cost.of(first),
        parameters=first["parameters"] if isinstance(first.get("parameters"), dict) else {},
    )


def _probe(runs: Sequence[Run]) -> str | None:
    record = runs[0].record
    if record["protocol"] not in PROTOCOLS or not _matches(_NAME, record["collection_name"]):
        return None
    usual = kind_of(PROTOCOLS[record["protocol"]].classifier(record["n_train"]))
    if not (_matches(_NAME, record["classifier"]) and _matches(_NAME, record["tasks"])):
        return None
    return command(
        f"probe {record['tasks']}",
        space=record["space"],
        data=f"{record['collection_name']}@{record['collection']}",
        protocol=record["protocol"],
        n_train=record["n_train"],
        seed=[run.record["seed"] for run in runs],
        svm=None if record["classifier"] == usual else record["classifier"],
        missing="skip" if record.get("missing") else None,
        max_missing=max_missing_of(record) if record.get("missing") else None,
        same_images_as=same_images_of(record) if record.get("missing") else None,
        # What was shared between two engines is what "auto" does with large tasks.
        backend=record["backend"] if record["backend"] in _BACKENDS else None,
    )


def _extract(record: dict[str, Any]) -> str | None:
    names = [name for name in record["backbones"] if _matches(_CKPT, name)]
    if not names or not _matches(_NAME, record["collection_name"]):
        return None
    return extract_command(names[0], data=f"{record['collection_name']}=DIR")


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _facts(extraction: dict[str, Any]) -> str:
    facts = {key: value for key, value in extraction.items() if key != "versions"}
    words = [f"{key} {value}" for key, value in sorted(facts.items()) if isinstance(value, str | int | float)]
    return ", ".join(word for word in (*words, versions_of(extraction)) if word)


def _distinct(words: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for word in words if word))
