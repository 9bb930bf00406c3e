"""Manifests of many artifacts: JSON, YAML or CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cli.errors import UsageFault

LARGEST: Final = 10_000  # artifacts of one commit
_TEXTS: Final = ("product", "version", "platform", "channel", "file_name", "notes", "sha256")
_FIELDS: Final = frozenset({"file", "sboms", "attestations", "labels", "security", *_TEXTS})
_YES: Final = frozenset({"true", "yes", "1"})
_NO: Final = frozenset({"false", "no", "0", ""})


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One artifact of a manifest; ``sha256``, when given, is what the server must receive."""

    file: Path
    product: str
    version: str
    platform: str = "any"
    channel: str = "stable"
    file_name: str = ""
    notes: str = ""
    sha256: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    security: bool = False
    sboms: tuple[Path, ...] = ()
    attestations: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """The name devices see."""
        return self.file_name or self.file.name


def read_manifest(path: Path) -> list[Listed]:
    """Read a manifest; its files are named from the folder it is in.

    JSON and YAML hold a list of objects, or an object of ``artifacts`` and ``defaults`` for all of them. CSV has a head
    line; several SBOMs or attestations are parted by ``;``, labels are ``key=value;key=value``.

    Raises:
        UsageFault: Unreadable, an unknown field, a field missing or of another kind, or more than 10,000 artifacts.
    """
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageFault(f"{path} is no text in UTF-8: {error}") from error
    entries = _from_csv(text) if path.suffix.lower() == ".csv" else _from_document(path, text)
    if not 1 <= len(entries) <= LARGEST:
        raise UsageFault(f"{path} lists {len(entries)} artifacts, 1 to {LARGEST} go into one commit")
    return [_listed(path, number, entry) for number, entry in enumerate(entries, start=1)]


def _from_csv(text: str) -> list[dict[str, Any]]:
    entries = []
    for row in csv.DictReader(io.StringIO(text), strict=True):
        if None in row:
            raise UsageFault(f"a line of the manifest has more fields than its head: {row[None]}")
        entry: dict[str, Any] = {name: value for name, value in row.items() if value}
        for name in ("sboms", "attestations"):
            if name in entry:
                entry[name] = entry[name].split(";")
        if "labels" in entry:
            entry["labels"] = dict(_pair(one) for one in entry["labels"].split(";"))
        if "security" in entry:
            entry["security"] = _truth(entry["security"])
        entries.append(entry)
    return entries


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageFault(f"the label {text!r} of the manifest is not key=value")
    return key, value


def _truth(text: str) -> bool:
    if text.lower() not in _YES | _NO:
        raise UsageFault(f"security is {text!r} in the manifest, expected true or false")
    return text.lower() in _YES


def _from_document(path: Path, text: str) -> list[dict[str, Any]]:
    found: Any
    try:
        if path.suffix.lower() == ".json":
            found = json.loads(text)
        else:
            import yaml

            found = yaml.safe_load(text)
    except ValueError as error:
        raise UsageFault(f"{path} is no JSON: {error}") from error
    except Exception as error:
        raise UsageFault(f"{path} is no YAML: {error}") from error
    defaults: Any = {}
    if isinstance(found, Mapping):
        unknown = found.keys() - {"artifacts", "defaults"}
        if unknown:
            raise UsageFault(f"{path} has the field {sorted(map(str, unknown))[0]!r}, expected artifacts and defaults")
        found, defaults = found.get("artifacts"), found.get("defaults", {})
    if not isinstance(found, list) or not isinstance(defaults, dict) or not all(isinstance(one, dict) for one in found):
        raise UsageFault(f"{path} holds no list of artifacts")
    return [{**defaults, **one} for one in found]


def _listed(path: Path, number: int, entry: Mapping[str, Any]) -> Listed:
    where = f"{path}: artifact {number}"
    unknown = sorted(str(name) for name in entry.keys() - _FIELDS)
    if unknown:
        raise UsageFault(f"{where} has the field {unknown[0]!r}; the fields are {', '.join(sorted(_FIELDS))}")
    for name in ("file", "product", "version"):
        if not entry.get(name):
            raise UsageFault(f"{where} has no {name}")
    for name in ("file", *_TEXTS):
        if not isinstance(entry.get(name, ""), str):
            raise UsageFault(f"{where}: {name} is {entry[name]!r}, expected a text; put it into quotes")
    sboms, labels, security = entry.get("sboms", []), entry.get("labels", {}), entry.get("security", False)
    attestations = entry.get("attestations", [])
    for name, files in (("sboms", sboms), ("attestations", attestations)):
        if not isinstance(files, list) or not all(isinstance(one, str) for one in files):
            raise UsageFault(f"{where}: {name} is no list of files")
    if not isinstance(labels, dict) or not all(isinstance(one, str) for pair in labels.items() for one in pair):
        raise UsageFault(f"{where}: labels is no object of texts")
    if not isinstance(security, bool):
        raise UsageFault(f"{where}: security is {security!r}, expected true or false")
    listed = Listed(
        file=path.parent / entry["file"],
        sboms=tuple(path.parent / one for one in sboms),
        attestations=tuple(path.parent / one for one in attestations),
        labels=dict(labels),
        security=security,
        **{name: entry[name] for name in _TEXTS if name in entry},
    )
    for file in (listed.file, *listed.sboms, *listed.attestations):
        if not file.is_file():
            raise UsageFault(f"{where}: there is no file {file}")
    return listed
