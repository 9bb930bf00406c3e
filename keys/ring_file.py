"""``keyring.json``: which keys a role has, how many of them must sign, and where each private half is.

Format 2 is ``{"format": 2, "keys": {<role>: {"threshold": n, "keys": [{"uri", "keyid", "public"}, …]}}}``; ``uri`` is
null for a key that a person holds elsewhere. Format 1, one key per role with threshold 1, is read and never written.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from securesystemslib.signer import Key

from keys.errors import KeyDamaged, KeyNotHere, KeyUnsuitable
from keys.files import replace_private, write_private

KEYRING_FILE: Final = "keyring.json"
_FORMAT: Final = 2
_ONE_KEY_FORMAT: Final = 1


class RoleKey(NamedTuple):
    """One key: where its private half is (None: with a person, never in reach of this machine) and its public half."""

    uri: str | None
    public: Key


@dataclass(frozen=True, slots=True)
class RoleKeys:
    """All keys of a role, in order of preference, and how many different ones must sign (1 to all of them).

    Raises:
        KeyUnsuitable: No key at all, one key twice, or a threshold that they cannot reach.
    """

    keys: tuple[RoleKey, ...]
    threshold: int = 1

    def __post_init__(self) -> None:
        keyids = {key.public.keyid for key in self.keys}
        if len(keyids) != len(self.keys):
            raise KeyUnsuitable("one key stands twice in a role; name each key once")
        if not 1 <= self.threshold <= len(self.keys):
            raise KeyUnsuitable(
                f"a threshold of {self.threshold} does not go with {len(self.keys)} keys; "
                f"expected 1 to {max(len(self.keys), 1)}"
            )


def read_ring(path: Path) -> dict[str, RoleKeys]:
    """Read a keyring; raises KeyNotHere when there is none and KeyDamaged when it is not what it should be."""
    try:
        stored = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise KeyNotHere(f"no keyring at {path}; `publish init` makes one") from error
    except OSError as error:
        raise KeyNotHere(f"{path} could not be read: {error.strerror or error}; look at the disk, try again") from error
    except ValueError as error:
        raise KeyDamaged(f"{path} is no JSON: {error}") from error
    try:
        version = stored["format"]
        if version not in (_ONE_KEY_FORMAT, _FORMAT):
            raise KeyDamaged(f"{path} has format {version!r}, this version reads {_ONE_KEY_FORMAT} and {_FORMAT}")
        return {
            str(name): RoleKeys((_key_in(entry),)) if version == _ONE_KEY_FORMAT else _keys_in(entry)
            for name, entry in stored["keys"].items()
        }
    except (KeyError, TypeError, AttributeError, ValueError, KeyUnsuitable) as error:
        raise KeyDamaged(f"{path} lacks or garbles a field: {error!r}") from error


def create_ring(path: Path, ring: Mapping[str, RoleKeys]) -> None:
    """Write the first keyring (mode 0600); raises KeyExists when there is one."""
    write_private(path, _text(ring))


@contextmanager
def changed_ring(path: Path) -> Iterator[dict[str, RoleKeys]]:
    """Hand out the keyring to be changed in place and write it when the block ends well, in one step.

    Other processes that change it wait; those that read it see the old or the new one, never a part.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        ring = read_ring(path)
        yield ring
        replace_private(path, _text(ring))
    finally:
        os.close(folder)


def _text(ring: Mapping[str, RoleKeys]) -> bytes:
    roles = {
        name: {"threshold": role.threshold, "keys": [_key_out(key) for key in role.keys]} for name, role in ring.items()
    }
    return (json.dumps({"format": _FORMAT, "keys": roles}, indent=2, sort_keys=True) + "\n").encode()


def _key_out(key: RoleKey) -> dict[str, Any]:
    return {"uri": key.uri, "keyid": key.public.keyid, "public": key.public.to_dict()}


def _key_in(entry: Mapping[str, Any]) -> RoleKey:
    uri = entry["uri"]
    if uri is not None and type(uri) is not str:
        raise TypeError(f"the URI is {uri!r}, expected text or null")
    return RoleKey(uri, Key.from_dict(entry["keyid"], dict(entry["public"])))


def _keys_in(entry: Mapping[str, Any]) -> RoleKeys:
    keys: Sequence[Mapping[str, Any]] = entry["keys"]
    threshold = entry["threshold"]
    if type(threshold) is not int:
        raise TypeError(f"the threshold is {threshold!r}, expected a whole number")
    return RoleKeys(tuple(_key_in(key) for key in keys), threshold)
