"""What every test of the commands needs: a server that answers as told, and a person without a past."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.main import run
from tests.simulators.api_server import ApiServerSimulator


@dataclass(frozen=True)
class Outcome:
    """How a call of `publish` ended: exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Publish = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests keeps their own keyring to themselves."""
    monkeypatch.setenv("WAVEGATE_KEYRING", "off")


@pytest.fixture
def server() -> Iterator[ApiServerSimulator]:
    with ApiServerSimulator() as simulator:
        yield simulator


@pytest.fixture
def config_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("WAVEGATE_URL", "WAVEGATE_API_KEY", "WAVEGATE_API_KEY_FILE", "WAVEGATE_PROFILE", "WAVEGATE_ROOT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WAVEGATE_ID_TOKEN", "WAVEGATE_AUDIENCE", "WAVEGATE_ORG", "ACTIONS_ID_TOKEN_REQUEST_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WAVEGATE_HOME", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "config"
    monkeypatch.setenv("WAVEGATE_CONFIG_DIR", str(folder))
    return folder


@pytest.fixture
def publish(
    server: ApiServerSimulator,
    config_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Publish:
    """Runs `publish` against the simulator with an API key in the environment."""
    monkeypatch.setenv("WAVEGATE_URL", server.url)
    monkeypatch.setenv("WAVEGATE_API_KEY", "wgk_test")

    def call(*arguments: str) -> Outcome:
        capsys.readouterr()
        code = run(arguments)
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return call


def on_a_terminal(
    *arguments: str, config: Path, dialogue: Sequence[tuple[str, str]] = (), seconds: float = 30
) -> tuple[int, str]:
    """Run `publish` in a process of its own on a pseudo-terminal.

    Args:
        dialogue: What is waited for on the screen, and the line typed then, in turn. Typing ahead would be lost: a
            question for a password throws away what stands in the terminal.
        seconds: After that long the process is killed.

    Returns:
        The exit code, and all that appeared on the screen.
    """
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", "from cli.main import main; main()", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "WAVEGATE_CONFIG_DIR": str(config), "TERM": "dumb", "COLUMNS": "100"},
    ) as process:
        os.close(theirs)
        screen, read, left = b"", 0, list(dialogue)
        deadline = time.monotonic() + seconds
        while process.poll() is None or select.select([ours], [], [], 0)[0]:
            if time.monotonic() > deadline:
                process.kill()
            if select.select([ours], [], [], 0.05)[0]:
                try:
                    screen += os.read(ours, 65536)
                except OSError:  # Linux says EIO when the other end is closed
                    break
            if left and left[0][0].encode() in screen[read:]:
                _, line = left.pop(0)
                read = len(screen)
                os.write(ours, f"{line}\n".encode())
    os.close(ours)
    return process.returncode, screen.decode().replace("\r\n", "\n")
