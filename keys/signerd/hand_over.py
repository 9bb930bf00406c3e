"""Taking the online keys away from the server and giving them to a signer process."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from keys.errors import KeyExists
from keys.files import PASSPHRASE, SCHEME, make_private_folder, remove_durably, replace_private
from keys.keyring import OFFLINE
from keys.ring_file import KEYRING_FILE, RoleKey, RoleKeys, changed_ring, create_ring, read_ring
from keys.signer_client import SIGNER_SCHEME, SignerAddress
from keys.stores import PIN

_ONLINE: Final = f"{SCHEME}:online/"


def hand_over(folder: Path, home: Path, socket: Path) -> tuple[str, ...]:
    """Move the online keys of the keyring in ``folder`` to ``home``, where a signer process will hold them.

    The public halves stay as they are, so no client and no signed file notices. Keys in other stores keep their URI in
    ``home``; in ``folder`` all of them are now asked for through ``socket``. Offline keys stay. After a stop halfway
    the keys are in both places and the next call goes on.

    Args:
        folder: Of the server's keyring; its ``passphrase`` and its PINs go along.
        home: Of the signer process, on the same machine, best owned by a user of its own.
        socket: Where the signer process will listen; absolute.

    Returns:
        Names of the roles whose keys were moved.

    Raises:
        KeyExists: ``home`` holds other keys; nothing was changed in ``folder``.
        OSError: A file could not be written.
    """
    ring = read_ring(folder / KEYRING_FILE)
    moved = {
        name: role
        for name, role in ring.items()
        if name not in OFFLINE and not any((key.uri or "").startswith(f"{SIGNER_SCHEME}:") for key in role.keys)
    }
    make_private_folder(home / "online")
    files = [
        Path("online") / key.uri.removeprefix(_ONLINE)
        for role in moved.values()
        for key in role.keys
        if key.uri is not None and key.uri.startswith(_ONLINE)
    ]
    secrets = [Path(PASSPHRASE), *(Path(f"{name}.{PIN}") for name in ring if name not in OFFLINE)]
    for file in (*files, *secrets):
        if (folder / file).is_file():
            _copy(folder / file, home / file)
    if moved:
        _name(home / KEYRING_FILE, moved)
        with changed_ring(folder / KEYRING_FILE) as changed:
            changed |= {name: _asked_for(name, role, socket) for name, role in moved.items()}
    for file in (*(path.relative_to(home) for path in (home / "online").iterdir()), *secrets):
        if (home / file).is_file() and (folder / file).is_file() and _are_equal(home / file, folder / file):
            remove_durably(folder / file)
    return tuple(sorted(moved))


def _asked_for(name: str, role: RoleKeys, socket: Path) -> RoleKeys:
    uri = SignerAddress(socket, name).uri()
    return RoleKeys(tuple(key if key.uri is None else RoleKey(uri, key.public) for key in role.keys), role.threshold)


def _copy(source: Path, target: Path) -> None:
    if not target.exists():
        replace_private(target, source.read_bytes())  # in one step: a part of a key would be in the way for good
    elif not _are_equal(source, target):
        raise KeyExists(f"there is another file at {target} already; give the signer a folder of its own")


def _are_equal(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def _name(path: Path, moved: dict[str, RoleKeys]) -> None:
    if not path.exists():
        create_ring(path, moved)
        return
    there = read_ring(path)
    if any(there.get(name) != role for name, role in moved.items()):
        raise KeyExists(f"{path} names other keys already; give the signer a folder of its own")
