"""docs/protocols.md says of each protocol what its record says."""

from pathlib import Path

import pytest

from bb.probe.classification.published.protocol import parse_protocol
from bb.probe.classification.published.registry import PROTOCOLS

PAGE = (Path(__file__).parents[4] / "docs" / "protocols.md").read_text()


@pytest.mark.parametrize("name", [name for name, plugin in PROTOCOLS.plugins.items() if plugin.own])
def test_the_page_has_its_section_and_its_figures(name):
    protocol = parse_protocol(name)
    section = PAGE.split(f"\n## {name}\n")[1].split("\n## ")[0]
    said = (protocol.source, protocol.paper, *protocol.tables, protocol.classifier, protocol.metric)
    for text in (*said, protocol.selection, *protocol.faults, *protocol.differs):
        assert text in section, text
    for value in (*protocol.shots, *protocol.seeds):
        assert str(value) in section
