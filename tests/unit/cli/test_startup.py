"""`publish --help` is what people wait for most often, so it may load next to nothing."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("flask", "sqlalchemy", "tuf", "rich", "urllib3", "yaml", "grpc", "cryptography", "platformdirs", "json")


def _modules_after(*arguments: str) -> tuple[str, list[str]]:
    script = (
        "import sys; from cli.main import run; run(sys.argv[1:]);"
        "print('MODULES', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    text, _, modules = done.stdout.partition("MODULES ")
    return text, modules.split()


def test_help_loads_no_library_but_click() -> None:
    _, modules = _modules_after("--help")
    assert [name for name in HEAVY if name in modules] == []


def test_help_loads_no_command() -> None:
    script = "import sys; from cli.main import run; run(['--help']); print([m for m in sys.modules if 'commands' in m])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_names_every_command_with_a_line() -> None:
    text, _ = _modules_after("--help")
    lines = text.split("Commands:\n")[1].rstrip().splitlines()
    commands = [line for line in lines if line[2] != " "]  # long ones go on below their beginning
    assert [line.split()[0] for line in commands] == [
        "init",
        "serve",
        "doctor",
        "org",
        "demo",
        "simulate",
        "register",
        "login",
        "logout",
        "whoami",
        "profile",
        "second-factor",
        "session",
        "push",
        "push-batch",
        "artifact",
        "sbom",
        "attestation",
        "rollout",
        "group",
        "device",
        "device-ca",
        "enroll-token",
        "metering",
        "audit",
        "key",
        "trusted-publisher",
        "user",
        "webhook",
        "repo",
        "product",
        "signer",
        "completion",
    ]
    assert all(len(line.split()) > 3 for line in commands)


def test_help_of_a_command_loads_no_server_library() -> None:
    _, modules = _modules_after("push", "--help")
    assert [name for name in HEAVY if name in modules and name != "json"] == []


def test_the_first_process_of_the_server_loads_nothing_of_the_api() -> None:
    """It starts the one that answers HTTP, and declaring all routes takes a second."""
    script = "import sys, api.serve; print([name for name in ('api.app', 'flask', 'pydantic') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
