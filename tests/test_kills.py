"""What SIGKILL leaves of extract, push, pull and compact; fifty kills are scripts/soak/kills.py's own default."""

import os
import subprocess
import sys

from tests.photographs import ROOT


def test_five_kills_lose_nothing(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BB_")}
    command = [sys.executable, ROOT / "scripts" / "soak" / "kills.py", "--kills", "5", "--work", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "5 kills survived" in done.stdout
