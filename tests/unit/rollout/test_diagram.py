"""The documentation says what the table says."""

from __future__ import annotations

from pathlib import Path

from rollout import diagram
from rollout.machine import TRANSITIONS

DOCS = Path(__file__).parents[3] / "docs" / "rollouts.md"


def test_the_documented_transitions_are_those_of_the_code() -> None:
    text = DOCS.read_text(encoding="utf-8")
    begin, end = "<!-- begin: python -m rollout.diagram -->\n", "<!-- end -->"
    written = text[text.index(begin) + len(begin) : text.index(end)]
    assert written == diagram.between_markers()


def test_every_arrow_is_in_the_picture_and_in_the_table() -> None:
    picture, table = diagram.mermaid(), diagram.table()
    assert "    waiting --> running: open_wave" in picture
    for _, command in TRANSITIONS:
        assert f"| `{command.name}` |" in table
