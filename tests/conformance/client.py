"""The agent behind the command line of tuf-conformance's client protocol: ``init``, ``refresh``, ``download``.

``python -m tests.conformance.client`` is what that suite takes as its client. All that fetches, verifies and stores is
the agent's own code; here are only the flags, and a copy of what was verified to where the suite looks for it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from agent.errors import AgentError
from agent.home import Home
from agent.partial import Terms
from agent.trust import Repository, View
from agent.web import Limits


@dataclass(frozen=True)
class ConformanceHome(Home):
    """An agent's home whose metadata cache is where the suite wants it; the rest lies beside, out of its sight."""

    metadata_folder: Path = Path()

    @property
    def metadata(self) -> Path:
        return self.metadata_folder


def main(arguments: list[str]) -> int:
    """0 when all that was asked is done, else 1."""
    asked = _parser().parse_args(arguments)
    home = ConformanceHome(asked.metadata_dir / ".agent", asked.metadata_dir)
    try:
        if asked.command == "init":
            home.create()
            home.identity.mkdir(exist_ok=True)
            shutil.copyfile(asked.trusted_root, home.identity / "root.json")
        else:
            _poll(home, asked)
    except (AgentError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201 - this is a command
        return 1
    except Exception as error:  # noqa: BLE001 - a client that crashes has refused, and says so
        print(f"crashed, {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _poll(home: Home, asked: argparse.Namespace) -> None:
    repository = Repository(
        home,
        metadata_url=asked.metadata_url,
        targets_url=asked.target_base_url or asked.metadata_url,
        agent="wavegate-agent conformance",
        metadata_limits=Limits(seconds=30),
        terms=Terms(limits=Limits(seconds=30)),
    )
    try:
        view = repository.refresh()
        for name in asked.target_name or ():
            _download(view, name, asked.target_dir)
    finally:
        repository.close()


def _download(view: View, name: str, folder: Path) -> None:
    target = view.target(name)
    if target is None:
        raise LookupError(f"{name} is not in the repository")
    destination = folder / quote(name, "")
    if "sha256" in target.hashes:
        content = view.download(target, lambda: None).read_bytes()
    else:
        # Artifacts are known by their SHA-256; what has none can be read as a document is.
        found = view.document(name)
        assert found is not None
        content = found
    if not destination.exists() or destination.read_bytes() != content:
        destination.write_bytes(content)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url")
    parser.add_argument("--target-name", action="append")
    parser.add_argument("--target-dir", type=Path)
    parser.add_argument("--target-base-url")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("trusted_root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
