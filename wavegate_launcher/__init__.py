"""The first lines of our commands: they make sure that ``api``, ``cli`` and ``keys`` are ours.

Our rooms have names that anybody's project may have. A CI job usually stands in its own checkout with ``PYTHONPATH=.``,
so Python would look there first and import the job's ``cli`` as ours. Only this package has a name that nobody else
uses; it is imported first and puts things right before any room is imported.
"""

from __future__ import annotations

import os
import sys


def publish() -> None:
    """Run the command ``publish``; ends by ``SystemExit`` with the exit code of docs/cli.md."""
    find_ourselves_first()
    from cli.main import main

    main()


def agent() -> None:
    """Run the command ``wavegate-agent``; ends by ``SystemExit``."""
    find_ourselves_first()
    from agent.main import main

    main()


def simulated_fleet() -> None:
    """Run the process that `publish simulate` starts; ends by ``SystemExit``."""
    find_ourselves_first()
    from agent.simulation.main import main

    main()


def find_ourselves_first() -> None:
    """Reorder ``sys.path``: what was there without the caller, our own folder, what the caller brought.

    The caller brings the working directory and the folders in ``PYTHONPATH``. They stay at the end, because hooks and
    plug-ins of theirs must still be found. Our folder keeps its place if it stands before them: were it moved to the
    very front, every other distribution installed beside us would come before the standard library.
    """
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep) if not sys.flags.ignore_environment else []
    try:
        brought = {os.path.realpath(entry) for entry in [os.curdir, *named]}
    except OSError:  # the working directory was removed under us, so nothing can be imported from it
        brought = {os.path.realpath(entry) for entry in named if os.path.isabs(entry)}
    first = [entry for entry in sys.path if entry and os.path.realpath(entry) not in brought]
    last = [entry for entry in sys.path if not entry or os.path.realpath(entry) in brought]
    if ours not in first:
        first.append(ours)
        last = [entry for entry in last if entry != ours]
    sys.path[:] = first + last
