"""Our flat top-level names and the lock file."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK: Final = (ROOT / "requirements.lock").read_text()
LOCKED: Final = re.compile(r"^([a-z0-9-]+)==([\w.!+]+)(?: ; [^\\]+?)? \\$")
HASH: Final = re.compile(r"^    --hash=sha256:[0-9a-f]{64}(?: \\)?$")


def test_no_other_distribution_has_our_names() -> None:
    owners = packages_distributions()
    ours = [path.parent.name for path in ROOT.glob("*/__init__.py")]
    assert ours
    assert {name: owners[name] for name in ours if set(owners.get(name, [])) > {"wavegate"}} == {}


def test_the_lock_holds_exact_versions_and_hashes_and_nothing_else() -> None:
    assert [line for line in LOCK.splitlines() if not LOCKED.match(line) and not HASH.match(line)] == []


def test_the_lock_holds_everything_that_the_project_asks_for() -> None:
    asked = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    names = {re.split(r"[\[<>=~! ;]", line, maxsplit=1)[0] for line in asked}
    locked = {found[1] for line in LOCK.splitlines() if (found := LOCKED.match(line))}
    assert names
    assert names - locked == set()
