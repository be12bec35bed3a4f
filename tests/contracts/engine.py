"""What every engine for many machines keeps."""

import sys

from bb.cluster.engine import ClusterEngine, Job


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def check_engine(engine: ClusterEngine) -> None:
    """Command lines run, come back in order, and say how they ended; one that is ended from outside does too."""
    assert isinstance(engine, ClusterEngine)
    failing = "import sys; print('warning', file=sys.stderr); sys.exit('bb: no such store.')"
    jobs = [
        Job("well", python("print('done')")),
        Job("badly", python(failing)),
        Job("killed", python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")),
        Job("long", python("print('x' * 300_000)")),
    ]
    said: list[str] = []
    counts: list[int] = []
    well, badly, killed, long = engine.run(jobs, say=said.append, tick=counts.append)
    assert (well.status, well.out, well.why) == (0, "done\n", "")
    assert badly.status == 1 and "no such store." in badly.why and "warning" not in badly.why
    assert killed.status == -9
    assert long.out == "x" * 300_000 + "\n"
    assert said and counts[-1] == len(jobs) and counts == sorted(counts)
