"""Parts of a collection: every image is in exactly one, and parts of parts are parts."""

import hashlib

import pytest

from bb.extract.pipeline.partition import WHOLE, Partition
from bb.store import UsageError

DIGESTS = [hashlib.sha256(str(i).encode()).digest() for i in range(2000)]


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_every_image_is_in_exactly_one_part(n):
    parts = [Partition(i + 1, n) for i in range(n)]
    assert all(sum(part.holds(digest) for part in parts) == 1 for digest in DIGESTS)
    sizes = [sum(map(part.holds, DIGESTS)) for part in parts]
    assert min(sizes) > 0.8 * len(DIGESTS) / n


def test_a_part_splits_into_parts_that_hold_what_it_holds():
    part = Partition(2, 3)
    pieces = part.split(4)
    for digest in DIGESTS:
        assert sum(piece.holds(digest) for piece in pieces) == part.holds(digest)
    assert WHOLE.split(4) == [Partition(1, 4), Partition(2, 4), Partition(3, 4), Partition(4, 4)]


def test_which_part_an_image_is_in_is_fixed():
    """Or two machines with different versions would leave images out."""
    assert Partition(1, 5).holds(bytes(7) + b"\x05" + bytes(24))
    assert Partition(4, 5).holds(bytes(7) + b"\x08" + b"\xff" * 24)
    assert Partition.parse("2/3") == Partition(2, 3) and str(Partition(2, 3)) == "2/3"


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/", "/3", "a/b", "-1/3", "1/2/3", "1.0/2"])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(UsageError, match=f"--part {text} is not a part: write, for example, --part 1/8"):
        Partition.parse(text)
