"""One run as a plain Python object: a number, its splits, every example; to keep, to send, to look at in a notebook."""

import html
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bb.store.errors import BBError
from bb.store.files.regular_file import replace_file
from bb.store.local.runs import Run

Example = tuple[str, float, dict[str, Any]]

SHOWN = 20  # examples in a notebook: the worst ones


@dataclass(frozen=True)
class RunSummary:
    """One run's outcome, and what made it.

    summary   the mean score over test images, 0 to 1
    splits    the means of "cluster/NAME", "subcluster/CLUSTER/NAME" and "task/NAME"
    examples  a row each: image ID, score, and info: task, cluster, subcluster, y_true, y_pred, decision
    name      backbone, protocol, n_train, seed
    argv      the command line, where the run was made here; else empty
    commit    of the code, where the run says; else empty
    time      when it was started, in seconds since 1970
    gpu       what the features were embedded on, where the run says; else empty
    hostname  where it was made, if here; else empty
    """

    summary: float
    splits: dict[str, float]
    examples: list[Example]
    name: str = ""
    argv: list[str] = field(default_factory=list)
    commit: str = ""
    time: float = 0.0
    gpu: str = ""
    hostname: str = ""

    @classmethod
    def from_run(cls, run: Run, local: Mapping[str, Any] | None = None) -> "RunSummary":
        """The report of a run. `local` is what the store alone knows of it, `store.local(run.digest)`."""
        record, local = run.record, local or {}
        scores, provenance = record["scores"], record["provenance"]
        splits = {
            f"{kind}/{name}": float(found["mean"])
            for kind in ("cluster", "subcluster", "task")
            for name, found in scores[f"{kind}s"].items()
        }
        examples = [
            (str(row.pop("image_id")), float(row.pop("score")), row) for row in run.predictions().iter_rows(named=True)
        ]
        seed = "" if record["seed"] is None else f", seed {record['seed']}"
        backbones = ", ".join(record["backbones"]) or record["space"][:12]
        devices = {str(origin["device"]) for origin in provenance.get("extraction", ()) if "device" in origin}
        return cls(
            summary=float(scores["mean"]),
            splits=splits,
            examples=examples,
            name=f"{backbones}, {record['protocol']}, n_train {record['n_train']}{seed}",
            argv=[str(word) for word in local.get("argv", ())],
            commit=str(provenance.get("commit", "")),
            time=datetime.fromisoformat(provenance["made"]).timestamp(),
            gpu=", ".join(sorted(device for device in devices if not device.startswith("cpu"))),
            hostname=str(local.get("host", "")),
        )

    def to_json(self) -> str:
        """All of it as one JSON object. Floats are written so that they are read back to the bit."""
        return json.dumps(_plain(asdict(self)), allow_nan=False, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "RunSummary":
        """What `to_json` wrote. Errors: BBError where it is something else."""
        try:
            found = _exact(json.loads(text))
            found["examples"] = [(example, score, info) for example, score, info in found["examples"]]
            return cls(**found)
        except (ValueError, TypeError, KeyError, RecursionError) as fact:
            raise BBError(
                f"this is not a report in JSON ({str(fact)[:200]}): `RunSummary.to_json` writes them."
            ) from None

    def write(self, path: str | Path) -> None:
        """Writes it to a file as JSON, whole or not at all. Errors: BBError."""
        replace_file(Path(path), f"{self.to_json()}\n".encode())

    @classmethod
    def read(cls, path: str | Path) -> "RunSummary":
        """Reads it from such a file. Errors: BBError where there is none, or it holds something else."""
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise BBError(f"can't read a report from {path}: {error}") from None

    def _repr_html_(self) -> str:
        """Tables for a notebook: the facts, the splits, the worst examples."""
        facts = {
            "score": f"{self.summary:.4f}",
            "examples": str(len(self.examples)),
            "command": " ".join(self.argv),
            "commit": self.commit,
            "time": _when(self.time),
            "GPU": self.gpu,
            "host": self.hostname,
        }
        worst = sorted(self.examples, key=lambda example: (example[1], example[0]))[:SHOWN]
        return "".join(
            [
                _table(self.name or "report", (), [(key, value) for key, value in facts.items() if value]),
                _table("splits", ("split", "mean"), [(name, f"{mean:.4f}") for name, mean in self.splits.items()]),
                _table(
                    f"{len(worst)} worst examples",
                    ("example", "score", "info"),
                    [
                        (example, f"{score:g}", ", ".join(f"{key}: {value}" for key, value in info.items()))
                        for example, score, info in worst
                    ],
                ),
            ]
        )


def _when(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):  # no moment of any calendar
        return str(seconds)


def _table(caption: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """An HTML table; every string in it is escaped."""

    def text(word: str) -> str:
        # A file name that is not UTF-8 comes with lone surrogates, which a page can't hold.
        return html.escape(word.encode(errors="replace").decode())

    def row(words: tuple[str, ...], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{text(word)}</{tag}>" for word in words) + "</tr>"

    header = f"<thead>{row(head, 'th')}</thead>" if head else ""
    body = "".join(row(words, "td") for words in rows)
    return f"<table><caption>{text(caption)}</caption>{header}<tbody>{body}</tbody></table>"


def _plain(value: Any) -> Any:
    """Without what JSON has no word for: NaN and the infinities become {"float": …}."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _exact(value: Any) -> Any:
    """The way back."""
    if isinstance(value, dict):
        if value.keys() == {"float"} and value["float"] in ("nan", "inf", "-inf"):
            return float(value["float"])
        return {key: _exact(inner) for key, inner in value.items()}
    return [_exact(inner) for inner in value] if isinstance(value, list) else value
