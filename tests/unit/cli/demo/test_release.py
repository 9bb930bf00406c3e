"""The demo's artifacts are real and repeatable, and their SBOM names what is in them."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from cli.demo.product import DemoFailed
from cli.demo.release import build_release


def test_same_installation_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = build_release(tmp_path / "a", "1.0.0", ("click",), needs_memory_mib=128)
    two = build_release(tmp_path / "b", "1.0.0", ("click",), needs_memory_mib=128)
    assert one.artifact.read_bytes() == two.artifact.read_bytes()


def test_sbom_names_exactly_the_distributions_that_are_inside(tmp_path: Path) -> None:
    release = build_release(tmp_path, "1.0.0", ("rich",), needs_memory_mib=128)
    bill = json.loads(release.sbom.read_text())
    assert {component["name"] for component in bill["components"]} == {"rich", "pygments", "markdown-it-py", "mdurl"}
    assert bill["metadata"]["component"]["version"] == "1.0.0"
    with tarfile.open(release.artifact) as archive:
        names = archive.getnames()
    assert names[0] == "release.json"
    assert {"site-packages/rich/console.py", "site-packages/mdurl/__init__.py"} <= set(names)
    assert not [name for name in names if name.endswith(".pyc")]


def test_too_small_an_installation_is_said_clearly(tmp_path: Path) -> None:
    with pytest.raises(DemoFailed, match="the demo needs more than 1000000000000"):
        build_release(tmp_path, "1.0.0", ("click",), needs_memory_mib=128, at_least_bytes=10**12)
