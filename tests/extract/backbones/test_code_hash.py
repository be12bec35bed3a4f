"""The git hashes of extract/embedding and of extract: those of git itself, on a checkout and in an installed wheel."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bb.extract.backbones.code_hash import AT_START, EMBEDDING, EXTRACT, EXTRACT_AT_START, tree_hash

ROOT = Path(__file__).parents[3]


def git(*arguments, cwd=ROOT):
    return subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def committed(tmp_path):
    """extract/ as it is now, committed to a repository of its own; the trees of both folders as git prints them."""
    shutil.copytree(EXTRACT, tmp_path / "extract", ignore=shutil.ignore_patterns("__pycache__"))
    git("init", "-q", cwd=tmp_path)
    git("add", "extract", cwd=tmp_path)
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a", cwd=tmp_path)
    return [git("rev-parse", f"HEAD:{folder}", cwd=tmp_path) for folder in ("extract/embedding", "extract")]


def test_they_are_what_git_prints(committed):
    assert [tree_hash(), tree_hash(EXTRACT)] == committed
    assert committed == [AT_START, EXTRACT_AT_START]


def test_a_clone_has_the_hash_of_its_commit(tmp_path):
    git("clone", "-q", "--no-local", "--depth", "1", ROOT, "clone", cwd=tmp_path)
    clone = tmp_path / "clone"
    assert tree_hash(clone / "extract") == git("rev-parse", "HEAD:extract", cwd=clone)


def test_a_clean_checkout_has_the_hash_of_its_commit():
    if git("status", "--porcelain", "extract/embedding"):
        pytest.skip("extract/embedding has uncommitted edits")
    assert tree_hash() == git("rev-parse", "HEAD:extract/embedding")


def test_an_edit_changes_it_and_bytecode_does_not(tmp_path):
    shutil.copytree(EMBEDDING, tmp_path / "extract")
    (tmp_path / "extract" / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "extract" / "__pycache__" / "view.cpython-311.pyc").write_bytes(b"x")
    assert tree_hash(tmp_path / "extract") == tree_hash()
    (tmp_path / "extract" / "empty").mkdir()
    assert tree_hash(tmp_path / "extract") == tree_hash(), "git records no empty folder"
    (tmp_path / "extract" / "view.py").write_text("# edited\n")
    assert tree_hash(tmp_path / "extract") != tree_hash()


def test_extract_holds_nothing_but_plain_python_files():
    tracked = git("ls-files", "-s", "extract").splitlines()
    assert tracked
    for line in tracked:
        mode, _, _, path = line.split(maxsplit=3)
        assert mode == "100644" and path.endswith(".py"), path
        assert not (ROOT / path).exists() or b"\r" not in (ROOT / path).read_bytes(), path
        assert not path.startswith("extract/embedding/") or Path(path).parent.name == "embedding", path


@pytest.mark.e2e
def test_a_wheel_in_an_empty_environment_works_and_has_the_same_hash(tmp_path, committed):
    """Built, installed without torch and without extras, and asked from another folder."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    uv = [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", python, "-c", ROOT / "constraints.txt"]
    subprocess.run([*uv, wheel], check=True, cwd=tmp_path)

    def run(*command):
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    code = "from bb.extract.backbones.code_hash import AT_START, EXTRACT_AT_START; print(AT_START, EXTRACT_AT_START)"
    asked = run(python, "-c", code)
    assert asked.stdout.split() == committed, asked.stderr
    bb = tmp_path / "env" / "bin" / "bb"
    for verb in (["--help"], ["store", "--help"], ["probe", "newt", "--help"], ["report", "--help"], ["doctor"]):
        done = run(bb, *verb)
        assert done.returncode == 0, done.stderr
    for verb in (["demo"], ["models"], ["extract", "--ckpt", "ViT-B-16/openai", "--data", "a=."]):
        done = run(bb, *verb)
        assert done.returncode == 2
        assert "pip install 'backbone-bench[extract]'" in done.stderr
        assert "Traceback" not in done.stderr
