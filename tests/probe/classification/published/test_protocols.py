"""Every published protocol passes the contract's suite; what contradicts one is refused by name."""

import re

import pytest

from bb.probe.classification.published.protocol import parse_protocol
from bb.probe.classification.published.registry import PROTOCOLS
from bb.probe.classifiers.protocol import parse_protocol as parse_newt
from bb.store.errors import UsageError
from tests.contracts.protocol import check


@pytest.mark.parametrize("name", PROTOCOLS)
def test_protocol(name):
    protocol = parse_protocol(name)
    assert protocol.name == name
    check(protocol)


def test_shots_and_seeds_are_those_of_the_protocol():
    protocol = parse_protocol("dinov2-knn")
    assert [cell[2] for cell in protocol.grid(None, None)] == ["k=10", "k=20", "k=100", "k=200"]
    assert protocol.grid([12], [0, 1]) == [(12, 0, "k=10"), (12, 0, "k=12"), (12, 1, "k=10"), (12, 1, "k=12")]


@pytest.mark.parametrize("name", ["biobench", "newt2021"])
def test_newts_protocols_are_said_to_be_elsewhere(name):
    with pytest.raises(UsageError, match=re.escape(f"run `bb probe newt --protocol {name}`")):
        parse_protocol(name)
    with pytest.raises(UsageError, match="Protocols of other tasks are those of `bb probe classify --protocol`"):
        parse_newt("dinov2-knn")
    with pytest.raises(UsageError, match="^Unknown protocol 'dino': choose biobench-simpleshot, "):
        parse_protocol("dino")
