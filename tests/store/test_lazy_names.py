"""Names that a package imports when they are asked for."""

import subprocess
import sys

import pytest

import bb.extract
import bb.probe
import bb.store


def test_a_module_of_the_same_name_never_takes_the_place_of_a_function():
    """In a fresh process, where nothing is imported yet, asked for twice: the first time imports the module."""
    code = (
        "import bb.extract, bb.probe; print(*(type(f) for _ in '12' for f in (bb.extract.embed_texts, bb.probe.run)))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["<class", "'function'>"] * 4


@pytest.mark.parametrize("package", [bb.extract, bb.probe, bb.store], ids=lambda package: package.__name__)
def test_what_a_package_does_not_have_is_named(package):
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):
        _ = package.nothing
