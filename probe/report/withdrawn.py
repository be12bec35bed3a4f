"""Runs whose features may have been revoked since."""

from collections.abc import Iterator, Sequence

from bb.store import Store
from bb.store.format.space import short
from bb.store.local.runs import Run
from bb.store.maintenance.sign import lying_here


def withdrawn_notes(store: Store, runs: Sequence[Run]) -> Iterator[str]:
    """The spaces of these runs of which rows were revoked: a run does not say in which segments its rows were."""
    revoked = store.revoked()
    if not revoked:
        return
    lenders = [older for run in runs if isinstance(older := run.record.get("adopted"), list)]
    read = {str(run.record["space"]) for run in runs} | {str(key) for older in lenders for key in older}
    for key in sorted(read & {part.owner for part in lying_here(store, revoked) if part.kind == "segment"}):
        yield (
            f"rows of space {short(key)} were revoked (`bb store info {short(key)}`): runs from before may rest on "
            "them. Probe again, and `bb store revoke RUN_ID` takes such a run out."
        )
