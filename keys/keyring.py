"""Which key signs what, and where its private half is kept.

``keyring.json`` maps the name of a key to a URI for securesystemslib and its public half. URIs of the form
``sealed:online/<file>`` and ``sealed:offline/<file>`` are relative to the keyring's two folders, so both folders can be
moved; the offline one need not be there at all until it is needed. Any other URI (``hsm:``, ``awskms:``, …) goes to
securesystemslib as it stands.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, Signer, SSlibKey

from keys.errors import CustodyError, KeyDamaged, KeyExists, KeyLocked, KeyNotHere, UnknownKey
from keys.files import PASSPHRASE, SCHEME, make_private_folder, new_sealed_key, sync_folder, write_private

ROOT: Final = "root"
TARGETS: Final = "targets"
DECISIONS: Final = "decisions"
RELEASES: Final = "releases"
SNAPSHOT: Final = "snapshot"
TIMESTAMP: Final = "timestamp"
OFFLINE: Final = (ROOT, TARGETS)
ONLINE: Final = (DECISIONS, RELEASES, SNAPSHOT, TIMESTAMP)

KEYRING_FILE: Final = "keyring.json"
_FORMAT: Final = 1
_PASSPHRASE_BYTES: Final = 32
_ONLINE_FOLDER: Final = "online"
_OFFLINE_FOLDER: Final = "offline"


class Keyring:
    """The keys of one repository. Opening it reads public halves only; private ones are opened when first asked for.

    Args:
        folder: Holds ``keyring.json``, ``online/`` and, unless ``passphrase`` is given, ``passphrase``.
        offline: Holds the offline key files and their ``passphrase``; by default ``offline-keys`` beside ``folder``.
        passphrase: Opens the online keys, instead of the file.
        offline_passphrase: Opens the offline keys, instead of the file.

    Raises:
        KeyNotHere: There is no ``keyring.json``.
        KeyDamaged: It cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        offline: Path | None = None,
        *,
        passphrase: str | None = None,
        offline_passphrase: str | None = None,
    ) -> None:
        self._folders: Final = {
            _ONLINE_FOLDER: folder.resolve() / "online",
            _OFFLINE_FOLDER: (folder.parent / "offline-keys" if offline is None else offline).resolve(),
        }
        self._passphrase_files: Final = {
            _ONLINE_FOLDER: folder.resolve() / "passphrase",
            _OFFLINE_FOLDER: self._folders[_OFFLINE_FOLDER] / "passphrase",
        }
        self._passphrases: Final = {_ONLINE_FOLDER: passphrase, _OFFLINE_FOLDER: offline_passphrase}
        self._file: Final = folder.resolve() / KEYRING_FILE
        self._entries = _read(self._file)
        self._open: Final[dict[str, Signer]] = {}

    def names(self) -> tuple[str, ...]:
        """Names of all keys, sorted."""
        return tuple(sorted(self._entries))

    def public(self, name: str) -> SSlibKey:
        """The public half of a key; raises UnknownKey."""
        return self._entry(name)[1]

    def name_of(self, keyid: str) -> str | None:
        """Name of the key with this keyid, or None; a keyid not seen before is looked for in the file as it is now."""
        found = self._find(keyid)
        if found is None:
            self._entries = _read(self._file)  # another process may have added it
            found = self._find(keyid)
        return found

    def add_online(self, role: str) -> SSlibKey:
        """Make another online key for a role, named ``<role>-<n>``, and return its public half.

        Raises:
            KeyLocked: The online passphrase is missing.
            OSError: A file could not be written. A key file without an entry is no key of this ring.
        """
        self._entries = _read(self._file)
        folder, number = self._folders[_ONLINE_FOLDER], 2
        while f"{role}-{number}" in self._entries or (folder / f"{role}-{number}.pem").exists():
            number += 1
        name = f"{role}-{number}"
        public = new_sealed_key(folder / f"{name}.pem", self._passphrase(name, _ONLINE_FOLDER))
        self._save({**self._entries, name: (f"{SCHEME}:{_ONLINE_FOLDER}/{name}.pem", public)})
        return public

    def retire(self, name: str) -> None:
        """Take a key out of the ring and remove its online file; raises UnknownKey. What it signed stays signed."""
        self._entries = _read(self._file)
        uri, _ = self._entry(name)
        self._save({other: entry for other, entry in self._entries.items() if other != name})
        self._open.pop(name, None)
        if uri.startswith(f"{SCHEME}:{_ONLINE_FOLDER}/"):
            (self._folders[_ONLINE_FOLDER] / uri.rpartition("/")[2]).unlink(missing_ok=True)

    def signer(self, name: str) -> Signer:
        """A signer for this key; the private key stays in memory from then on.

        Raises:
            UnknownKey: The keyring has no such name.
            KeyNotHere: The private half is not in reach; the message names the key and where it was looked for.
            KeyLocked: Its passphrase is missing or wrong.
            KeyDamaged: Its file is not the key that belongs to the public half.
        """
        if name not in self._open:
            uri, public = self._entry(name)
            try:
                self._open[name] = self._signer(name, uri, public)
            except CustodyError:
                raise
            except Exception as error:
                raise KeyNotHere(
                    f"the {name} key could not be reached through its {uri.partition(':')[0]}: URI: {error}"
                ) from error
        return self._open[name]

    def _signer(self, name: str, uri: str, public: SSlibKey) -> Signer:
        scheme, _, rest = uri.partition(":")
        if scheme != SCHEME:
            if scheme not in SIGNER_FOR_URI_SCHEME:
                raise KeyDamaged(f"the {name} key has a URI of the unknown scheme {scheme!r}")
            return Signer.from_priv_key_uri(uri, public)
        place, _, file = rest.partition("/")
        if place not in self._folders or not file or Path(file).name != file:
            raise KeyDamaged(
                f"the {name} key's URI is {uri!r}, expected {SCHEME}:online/<file> or {SCHEME}:offline/<file>"
            )
        path = self._folders[place] / file
        if not path.is_file():
            raise KeyNotHere(_advice(name, path, offline=place == _OFFLINE_FOLDER))
        return Signer.from_priv_key_uri(f"{SCHEME}:{path}", public, lambda _: self._passphrase(name, place))

    def _passphrase(self, name: str, place: str) -> str:
        given = self._passphrases[place]
        if given is not None:
            return given
        file = self._passphrase_files[place]
        try:
            return file.read_text(encoding="utf-8").strip()
        except FileNotFoundError as error:
            raise KeyLocked(f"the {name} key needs the passphrase in {file}; put it there or give it") from error

    def _find(self, keyid: str) -> str | None:
        return next((name for name, (_, public) in self._entries.items() if public.keyid == keyid), None)

    def _save(self, entries: Mapping[str, tuple[str, SSlibKey]]) -> None:
        temporary = self._file.with_name(f".{KEYRING_FILE}.{secrets.token_hex(8)}")
        write_private(temporary, _text(entries))
        os.replace(temporary, self._file)  # readers see the old ring or the new one, whole
        sync_folder(self._file.parent)
        self._entries = entries

    def _entry(self, name: str) -> tuple[str, SSlibKey]:
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownKey(f"no key is named {name!r}; there are {', '.join(self.names())}") from None


def create_keyring(
    folder: Path,
    offline: Path | None,
    *,
    passphrase: str | None = None,
    offline_passphrase: str | None = None,
) -> Keyring:
    """Make all keys of a laptop's repository, each in an encrypted file of its own, and the keyring that names them.

    Folders get mode 0700, files 0600. A passphrase that is not given is made (256 random bits) and written to the file
    ``passphrase`` beside the keys; one that is given is written nowhere.

    Args:
        folder: For ``keyring.json`` and the online keys (decisions, releases, snapshot, timestamp).
        offline: For root and targets; may be moved away afterwards. None: these are kept by people elsewhere, and the
            ring has online keys only.
        passphrase: For the online keys.
        offline_passphrase: For the offline keys.

    Raises:
        KeyExists: One of the files is there already. ``keyring.json`` is written last: while it is missing, what is
            left in the folders belongs to no repository and may be removed.
        OSError: A file could not be written.
    """
    if (folder / KEYRING_FILE).exists():
        raise KeyExists(f"there is a keyring in {folder} already; nothing was changed")
    make_private_folder(folder / "online")
    entries: dict[str, tuple[str, SSlibKey]] = {}
    kinds: list[tuple[str, tuple[str, ...], Path, Path, str | None]] = [
        (_ONLINE_FOLDER, ONLINE, folder / "online", folder / PASSPHRASE, passphrase)
    ]
    if offline is not None:
        make_private_folder(offline)
        kinds.insert(0, (_OFFLINE_FOLDER, OFFLINE, offline, offline / PASSPHRASE, offline_passphrase))
    for place, names, path, secret_file, given in kinds:
        secret = secrets.token_urlsafe(_PASSPHRASE_BYTES) if given is None else given
        if given is None:
            write_private(secret_file, f"{secret}\n".encode())
        for name in names:
            public = new_sealed_key(path / f"{name}.pem", secret)
            entries[name] = (f"{SCHEME}:{place}/{name}.pem", public)
    write_private(folder / KEYRING_FILE, _text(entries))
    return Keyring(folder, offline, passphrase=passphrase, offline_passphrase=offline_passphrase)


def _text(entries: Mapping[str, tuple[str, SSlibKey]]) -> bytes:
    keys = {
        name: {"uri": uri, "keyid": public.keyid, "public": public.to_dict()} for name, (uri, public) in entries.items()
    }
    return (json.dumps({"format": _FORMAT, "keys": keys}, indent=2, sort_keys=True) + "\n").encode()


def _advice(name: str, path: Path, *, offline: bool) -> str:
    if offline:
        return (
            f"the {name} key is kept offline and is not at {path}; "
            "bring the offline folder back for this step, or name the folder where it is"
        )
    return f"the {name} key is not at {path}; restore it from the backup, the server cannot sign without it"


def _read(path: Path) -> Mapping[str, tuple[str, SSlibKey]]:
    try:
        stored = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise KeyNotHere(f"no keyring at {path}; `publish init` makes one") from error
    except ValueError as error:
        raise KeyDamaged(f"{path} is no JSON: {error}") from error
    try:
        if stored["format"] != _FORMAT:
            raise KeyDamaged(f"{path} has format {stored['format']!r}, this version reads {_FORMAT}")
        return {
            str(name): (str(entry["uri"]), SSlibKey.from_dict(entry["keyid"], dict(entry["public"])))
            for name, entry in stored["keys"].items()
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise KeyDamaged(f"{path} lacks or garbles a field: {error!r}") from error
