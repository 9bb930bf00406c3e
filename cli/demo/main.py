"""`publish demo`."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Final

import click

NEEDED_BYTES: Final = 5 * 1024**3 // 2  # 24 devices keep a release of 60 MB each, and the one before it


@click.command()
@click.option("--keep", is_flag=True, help="Keep the folder with the home, the devices and their logs.")
def demo(keep: bool) -> None:
    """Show the whole journey with real devices on this machine.

    In a temporary folder: a server, 24 device agents in three groups, a baseline, a bad release that pauses by itself
    in its first wave and is rolled back, a good release of more than 50 MB that completes, the audit trail, and the
    proof by a stock TUF client. Takes one to three minutes, uses loopback only, and ends what it started. Exit code 0
    says that everything was as it had to be.
    """
    from cli.demo.fleet import Fleet
    from cli.demo.product import DemoFailed, Product
    from cli.demo.screen import Screen
    from cli.demo.story import Story

    began = time.monotonic()
    # A plain kill must run the `finally` blocks too, or two dozen agents would outlive us.
    signal.signal(signal.SIGTERM, _leave)
    folder = Path(tempfile.mkdtemp(prefix="wavegate-demo-"))
    screen = Screen()
    try:
        free = shutil.disk_usage(folder).free
        if free < NEEDED_BYTES:
            raise DemoFailed(
                f"{folder.parent} has {free >> 20} MiB free, the demo needs {NEEDED_BYTES >> 20}; set TMPDIR elsewhere"
            )
        fleet = Fleet(folder / "devices")
        with Product(folder, told=screen.command, WAVEGATE_SCHEDULER_SECONDS="0.25") as product:
            story = Story(product, fleet, screen, folder)
            try:
                story.tell()
            finally:
                fleet.stop()
            stopped = product.stop()
        story.claims.append(("the server ended cleanly when asked to", stopped == 0))
        screen.chapter(f"{sum(holds for _, holds in story.claims)} of {len(story.claims)} as it had to be")
        for claim, holds in story.claims:
            screen.verdict(claim, holds)
        screen.say(f"{time.monotonic() - began:.0f} seconds")
        if keep:
            screen.say(f"kept in {folder}")
        screen.say("where to go on: README.md, docs/, and `publish init` for a home of your own")
        if not all(holds for _, holds in story.claims):
            sys.exit(1)
    except DemoFailed as error:
        raise click.ClickException(str(error)) from error
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _leave(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)
