"""The transition table as a picture and as a table; ``python -m rollout.diagram`` writes both for the documentation."""

from __future__ import annotations

import sys

from rollout.machine import TRANSITIONS
from rollout.model import FINAL_STATES, State


def mermaid() -> str:
    """A Mermaid state diagram; commands with the same way share an arrow."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for (state, command), arrow in TRANSITIONS.items():
        for to in arrow.to:
            arrows.setdefault((state, to), []).append(command.name)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> draft"]
    lines += [f"    {state} --> {to}: {', '.join(names)}" for (state, to), names in arrows.items()]
    lines += [f"    {state} --> [*]" for state in State if state in FINAL_STATES]
    return "\n".join([*lines, "```"])


def table() -> str:
    """A Markdown table: one row for each arrow, in the order of the code; states that share an arrow share a row."""
    rows: dict[tuple[str, str, str, str], list[str]] = {}
    for (state, command), arrow in TRANSITIONS.items():
        to = " or ".join(arrow.to)
        rows.setdefault((command.name, arrow.when, to, arrow.tag), []).append(state.value)
    lines = ["| from | command | when | to | event |", "|---|---|---|---|---|"]
    lines += [
        f"| {', '.join(states)} | `{command}` | {when} | {to} | `{tag}` |"
        for (command, when, to, tag), states in rows.items()
    ]
    return "\n".join(lines)


def between_markers() -> str:
    """What stands between the markers of ``docs/rollouts.md``."""
    return f"{mermaid()}\n\n{table()}\n"


if __name__ == "__main__":
    sys.stdout.write(between_markers())
