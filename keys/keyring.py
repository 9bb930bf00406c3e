"""Which key signs what, and where its private half is kept.

``keyring.json`` maps the name of a key to a URI for securesystemslib and its public half. URIs of the form
``sealed:online/<file>`` and ``sealed:offline/<file>`` are relative to the keyring's two folders, so both folders can be
moved; the offline one need not be there at all until it is needed. Any other URI (``hsm:``, ``awskms:``, …) goes to
securesystemslib as it stands.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, Signer, SSlibKey

from keys.errors import CustodyError, KeyDamaged, KeyExists, KeyLocked, KeyNotHere, UnknownKey
from keys.files import PASSPHRASE, SCHEME, make_private_folder, new_sealed_key, write_private

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
        self._entries: Final = _read(folder / KEYRING_FILE)
        self._open: Final[dict[str, Signer]] = {}

    def names(self) -> tuple[str, ...]:
        """Names of all keys, sorted."""
        return tuple(sorted(self._entries))

    def public(self, name: str) -> SSlibKey:
        """The public half of a key; raises UnknownKey."""
        return self._entry(name)[1]

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

    def _entry(self, name: str) -> tuple[str, SSlibKey]:
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownKey(f"no key is named {name!r}; there are {', '.join(self.names())}") from None


def create_keyring(
    folder: Path,
    offline: Path,
    *,
    passphrase: str | None = None,
    offline_passphrase: str | None = None,
) -> Keyring:
    """Make all keys of a laptop's repository, each in an encrypted file of its own, and the keyring that names them.

    Folders get mode 0700, files 0600. A passphrase that is not given is made (256 random bits) and written to the file
    ``passphrase`` beside the keys; one that is given is written nowhere.

    Args:
        folder: For ``keyring.json`` and the online keys (decisions, releases, snapshot, timestamp).
        offline: For root and targets; may be moved away afterwards.
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
    make_private_folder(offline)
    entries: dict[str, dict[str, Any]] = {}
    for place, names, path, secret_file, given in (
        (_OFFLINE_FOLDER, OFFLINE, offline, offline / PASSPHRASE, offline_passphrase),
        (_ONLINE_FOLDER, ONLINE, folder / "online", folder / PASSPHRASE, passphrase),
    ):
        secret = secrets.token_urlsafe(_PASSPHRASE_BYTES) if given is None else given
        if given is None:
            write_private(secret_file, f"{secret}\n".encode())
        for name in names:
            public = new_sealed_key(path / f"{name}.pem", secret)
            entries[name] = {
                "uri": f"{SCHEME}:{place}/{name}.pem",
                "keyid": public.keyid,
                "public": public.to_dict(),
            }
    text = json.dumps({"format": _FORMAT, "keys": entries}, indent=2, sort_keys=True)
    write_private(folder / KEYRING_FILE, f"{text}\n".encode())
    return Keyring(folder, offline, passphrase=passphrase, offline_passphrase=offline_passphrase)


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
    except OSError as error:
        raise KeyNotHere(f"{path} could not be read: {error.strerror or error}; look at the disk, try again") from error
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
