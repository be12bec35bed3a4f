"""What `bb store push` and `bb store pull` share: copying between two places, and what is said of it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import typer

from bb.console import Progress, say, show_json, show_table, stop_gracefully, warn
from bb.store.format.collection import some
from bb.store.sync.plan import summary
from bb.store.sync.transfer import TransferResult
from bb.store.text.size import size_text

if TYPE_CHECKING:
    from bb.store.sync.plan import TransferPlan
    from bb.store.sync.transfer import TransferResult


def transfer(
    plan: "TransferPlan",
    work: "Callable[..., TransferResult] | None",
    jobs: int,
    json_: bool,
    then: Callable[[], None] | None = None,
) -> None:
    """Says what is planned, does the work if there is one, then what follows it, and says what came of it."""
    source, target = plan.source.place.url, plan.target.place.url
    warn(*(f"note: {note}" for note in plan.notes))
    outcome = TransferResult()
    if work:
        with (
            stop_gracefully("stopping; what has come is kept") as stop,
            Progress("copying", plan.n_bytes, "B") as meter,
        ):
            outcome = work(plan, jobs=jobs, stop=stop, tick=meter)
        if then and not outcome.stopped:
            then()
    faults = plan.faults + outcome.faults
    kinds = summary(plan.items if work is None else outcome.copied)
    if json_:
        show_json(
            {
                **{"from": source, "to": target, "dry_run": work is None, "stopped": outcome.stopped},
                **{"parts": kinds, "bytes": sum(kind["bytes"] for kind in kinds), "there": plan.there},
                "passed_over": [{"path": left.part.path, "why": left.why} for left in plan.passed_over],
                "faults": [{"path": left.part.path, "why": left.why} for left in faults],
                "notes": plan.notes,
            }
        )
    else:
        if work is None and kinds:
            show_table(
                ["what", "space", "backbone", "parts", "rows", "size"],
                [[k["kind"], k["space"][:12], ", ".join(k["backbones"]), k["parts"], k["rows"] or "",
                  size_text(k["bytes"])] for k in kinds],
                right=["parts", "rows", "size"],
            )  # fmt: skip
        for why in dict.fromkeys(left.why for left in plan.passed_over):
            paths = [left.part.path for left in plan.passed_over if left.why == why]
            say(f"passed over, {why}: {len(paths)} parts ({some(paths)})")
        say(*(f"left out: {left.part.path}: {left.why}" for left in faults))
        n_parts, n_bytes = sum(k["parts"] for k in kinds), size_text(sum(k["bytes"] for k in kinds))
        done = "to copy" if work is None else "copied"
        say(f"{n_parts} parts {done}, {n_bytes}; {plan.there} were there, {len(faults)} left out: {source} to {target}")
    if outcome.stopped:
        warn("stopped: the same command goes on from there")
    if faults or outcome.stopped:
        raise typer.Exit(1)


def backbone_globs(ckpts: Sequence[str] | None) -> tuple[str, ...]:
    """Patterns of canonical names: a bare one is open_clip's, or any library's where it begins with a star."""
    globs = []
    for text in ckpts or ():
        org, colon, model = text.partition(":")
        if colon and org == "timm-vit":
            text = f"timm:{model}"
        elif (not colon or org == "hf-hub") and not text.startswith("*"):
            text = f"open_clip:{text}"
        globs.append(text)
    return tuple(globs)
