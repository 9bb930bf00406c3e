"""Which keys sign what, and where their private halves are kept.

``keyring.json`` maps the name of a role to its keys, each with a URI and its public half (:mod:`keys.ring_file`). URIs
of the form ``sealed:online/<file>`` and ``sealed:offline/<file>`` are relative to the keyring's two folders, so both
folders can be moved; the offline one need not be there at all until it is needed. For all others see
:mod:`keys.stores`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from securesystemslib.signer import SecretsHandler, Signature, Signer, SSlibKey

from keys.errors import CustodyError, KeyDamaged, KeyExists, KeyLocked, KeyNotHere, KeyUnsuitable, UnknownKey
from keys.files import (
    PASSPHRASE,
    SCHEME,
    SealedFileSigner,
    make_private_folder,
    new_sealed_key,
    remove_durably,
    write_private,
)
from keys.ring_file import KEYRING_FILE, RoleKey, RoleKeys, changed_ring, create_ring, read_ring
from keys.signer_client import SIGNER_SCHEME, SocketSigner, address_of, ask_highest, ask_retired
from keys.stores import PIN, open_store

ROOT: Final = "root"
TARGETS: Final = "targets"
DECISIONS: Final = "decisions"
RELEASES: Final = "releases"
SNAPSHOT: Final = "snapshot"
TIMESTAMP: Final = "timestamp"
OFFLINE: Final = (ROOT, TARGETS)
ONLINE: Final = (DECISIONS, RELEASES, SNAPSHOT, TIMESTAMP)

_PASSPHRASE_BYTES: Final = 32
_ONLINE_FOLDER: Final = "online"
_OFFLINE_FOLDER: Final = "offline"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


class Keyring:
    """The keys of one repository. Opening it reads public halves only; private ones are opened when first asked for.

    A ``keyring.json`` that another process replaces is read anew at the next call. Threads may share an instance.

    Args:
        folder: Holds ``keyring.json``, ``online/`` and, unless ``passphrase`` is given, ``passphrase``.
        offline: Holds the offline key files and their ``passphrase``; by default ``offline-keys`` beside ``folder``.
        passphrase: Opens the online keys, instead of the file.
        offline_passphrase: Opens the offline keys, instead of the file.
        pin: Asked for the PIN of a PKCS#11 token, with the name of the role; by default the file ``<role>.pin`` in
            ``folder`` holds it.

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
        pin: SecretsHandler | None = None,
    ) -> None:
        self._folder: Final = folder.resolve()
        self._folders: Final = {
            _ONLINE_FOLDER: self._folder / "online",
            _OFFLINE_FOLDER: (folder.parent / "offline-keys" if offline is None else offline).resolve(),
        }
        self._passphrase_files: Final = {
            _ONLINE_FOLDER: self._folder / PASSPHRASE,
            _OFFLINE_FOLDER: self._folders[_OFFLINE_FOLDER] / PASSPHRASE,
        }
        self._passphrases: Final = {_ONLINE_FOLDER: passphrase, _OFFLINE_FOLDER: offline_passphrase}
        self._pin: Final = pin
        self._read: tuple[tuple[int, int, int], dict[str, RoleKeys]] | None = None
        self._open: Final[dict[tuple[str, str | None, str], Signer]] = {}
        self._ring()

    def names(self) -> tuple[str, ...]:
        """Names of all roles that have keys, sorted."""
        return tuple(sorted(self._ring()))

    def keys(self, name: str) -> RoleKeys:
        """All keys of a role and their threshold; raises UnknownKey."""
        ring = self._ring()
        try:
            return ring[name]
        except KeyError:
            raise UnknownKey(f"no key is named {name!r}; there are {', '.join(sorted(ring))}") from None

    def public(self, name: str) -> SSlibKey:
        """The public half of a role's first key.

        Raises:
            UnknownKey: The keyring has no such name.
            KeyUnsuitable: It is a GnuPG key, which only clients in Python can verify; :meth:`keys` gives those too.
        """
        public = self.keys(name).keys[0].public
        if not isinstance(public, SSlibKey):
            raise KeyUnsuitable(
                f"the {name} key is a {public.scheme} key, which only some clients can verify; "
                "give the role a key of another kind"
            )
        return public

    def signer(self, name: str, among: Collection[str] | None = None) -> Signer:
        """A signer for the role's first key that can be reached; what it opens stays in memory from then on.

        Args:
            name: Of the role.
            among: Only keys with these ids, such as those that clients know the role by.

        Raises:
            UnknownKey: The keyring has no such name, or none of its keys is among those.
            KeyNotHere: No private half is in reach; the message names the key and where it was looked for.
            KeyStoreMissing: The library or program that reaches its store is not installed.
            KeyLocked: Its passphrase is missing or wrong.
            KeyDamaged: Its file is not the key that belongs to the public half.
        """
        return next(iter(self._signers(name, among, 1)))

    def sign(
        self,
        name: str,
        payload: bytes,
        *,
        role: str,
        among: Collection[str] | None = None,
        threshold: int | None = None,
    ) -> tuple[Signature, ...]:
        """Sign with as many of a role's keys as its threshold asks for, the first that can be reached.

        Args:
            name: Of the role in the keyring.
            payload: The signed part of the metadata, in canonical form.
            role: Of the metadata, which is not always in the payload: a bin is signed with the key ``releases``. The
                signer process judges by it.
            among: Only keys with these ids.
            threshold: Instead of the keyring's own.

        Raises:
            SigningRefused: The signer process says no.
            SigningFailed: A store gave no signature.
            CustodyError: As for :meth:`signer`; nothing is returned unless the threshold is reached.
        """
        wanted = self.keys(name).threshold if threshold is None else threshold
        return tuple(
            signer.sign_as(role, payload) if isinstance(signer, SocketSigner) else signer.sign(payload)
            for signer in self._signers(name, among, wanted)
        )

    def highest_signed(self) -> int:
        """The highest version that a signer process has signed, 0 without one: no number up to it may be used again.

        A commit that was cut off after signing and before its first write leaves its number nowhere else.

        Raises:
            KeyNotHere: The signer process does not answer.
        """
        uris = [key.uri for role in self._ring().values() for key in role.keys if key.uri is not None]
        sockets = {address_of(uri).socket for uri in uris if uri.startswith(f"{SIGNER_SCHEME}:")}
        return max(map(ask_highest, sockets), default=0)

    def replace(self, name: str, keys: Sequence[RoleKey], *, threshold: int = 1) -> None:
        """Give a role these keys and no others, durably; other processes see it at their next call.

        It changes neither root nor any delegation: clients go by those, not by this file.

        Raises:
            KeyUnsuitable: No key, one key twice, a threshold they cannot reach, or a name that is none.
        """
        if _NAME.fullmatch(name) is None:
            raise KeyUnsuitable(f"{name!r} is no name of a role; expected a-z, 0-9 and ._- such as `timestamp`")
        role = RoleKeys(tuple(keys), threshold)
        with changed_ring(self._folder / KEYRING_FILE) as ring:
            ring[name] = role

    def add(self, name: str, key: RoleKey) -> None:
        """Put a key behind those that a role has. Raises UnknownKey; KeyUnsuitable when it has that key already."""
        with changed_ring(self._folder / KEYRING_FILE) as ring:
            role = self._role_of(ring, name)
            ring[name] = RoleKeys((*role.keys, key), role.threshold)

    def drop(self, name: str, keyid: str) -> None:
        """Take a key from a role; its private half stays where it is.

        Raises:
            UnknownKey: The role does not have it.
            KeyUnsuitable: Those that are left cannot reach the threshold.
        """
        with changed_ring(self._folder / KEYRING_FILE) as ring:
            role = self._role_of(ring, name)
            left = tuple(key for key in role.keys if key.public.keyid != keyid)
            if len(left) == len(role.keys):
                raise UnknownKey(f"the role {name} has no key with the id {keyid}")
            ring[name] = RoleKeys(left, role.threshold)

    def held(self, name: str, keyids: Collection[str]) -> frozenset[str]:
        """Those of ``keyids`` that the role has here with a private half somewhere; none for an unknown name."""
        role = self._ring().get(name)
        found = () if role is None else role.keys
        return frozenset(key.public.keyid for key in found if key.uri is not None and key.public.keyid in keyids)

    def add_online(self, name: str) -> SSlibKey:
        """Make another key file for an online role, put it behind those it has, and return its public half.

        Raises:
            KeyUnsuitable: The role's keys are not in files here, so neither must its next one be.
            KeyLocked: The online passphrase is missing.
            OSError: A file could not be written. A key file without an entry is no key of this ring.
        """
        for key in self.keys(name).keys:
            if not (key.uri or "").startswith(f"{SCHEME}:"):
                raise KeyUnsuitable(
                    f"the {name} key is not in a file here ({key.uri or 'a person holds it'}), so its next one is not "
                    "made here; see `Rotation` in docs/keys.md"
                )
        made = self.make_key(name)
        self.add(name, made)
        assert isinstance(made.public, SSlibKey), "sealed files hold no GnuPG keys"
        return made.public

    def retire(self, name: str, keyid: str) -> None:
        """Take a key from a role and remove its file, if it is an online one; what it signed stays signed.

        A signer process is asked to put it out of use; in other stores it is left for their keepers. The private half
        goes first: cut short in between, the same call again ends it, and none is left that nothing names. Raises
        UnknownKey, KeyUnsuitable as :meth:`drop` does, KeyNotHere, SigningRefused, and OSError.
        """
        role = self.keys(name)
        uri = next((key.uri for key in role.keys if key.public.keyid == keyid), None)
        if uri is not None and uri.startswith(f"{SCHEME}:{_ONLINE_FOLDER}/"):
            RoleKeys(tuple(key for key in role.keys if key.public.keyid != keyid), role.threshold)  # may it go at all?
            remove_durably(self._folders[_ONLINE_FOLDER] / uri.rpartition("/")[2])
        elif uri is not None and uri.startswith(f"{SIGNER_SCHEME}:"):
            ask_retired(address_of(uri), keyid)
        self.drop(name, keyid)
        self._open.pop((name, uri, keyid), None)

    def make_key(self, name: str) -> RoleKey:
        """Make an encrypted Ed25519 key file for a role, beside the others; it is in the keyring only once added.

        Root and targets keys go into the offline folder, all others into ``online/``.

        Raises:
            KeyLocked: The folder's passphrase is not known.
            OSError: The file could not be written; none is left behind.
        """
        if _NAME.fullmatch(name) is None:
            raise KeyUnsuitable(f"{name!r} is no name of a role; expected a-z, 0-9 and ._- such as `timestamp`")
        place = _OFFLINE_FOLDER if name in OFFLINE else _ONLINE_FOLDER
        passphrase = self._passphrase(name, place)
        make_private_folder(self._folders[place])
        file = f"{name}-{secrets.token_hex(4)}.pem"
        return RoleKey(f"{SCHEME}:{place}/{file}", new_sealed_key(self._folders[place] / file, passphrase))

    def pin_of(self, name: str) -> str:
        """The PIN of the token that holds a role's keys; raises KeyLocked."""
        if self._pin is not None:
            return self._pin(name)
        file = self._folder / f"{name}.{PIN}"
        try:
            return file.read_text(encoding="utf-8").strip()
        except FileNotFoundError as error:
            raise KeyLocked(f"the {name} key needs the token's PIN in {file}; put it there or give it") from error
        except OSError as error:
            raise KeyLocked(f"{file} could not be read: {error.strerror or error}; look at the disk") from error

    def _signers(self, name: str, among: Collection[str] | None, wanted: int) -> list[Signer]:
        keys = [key for key in self.keys(name).keys if among is None or key.public.keyid in among]
        if not keys:
            raise UnknownKey(f"none of the {name} keys in the keyring is one that clients know the role by")
        signers: list[Signer] = []
        errors: list[CustodyError] = []
        for key in keys:
            if len(signers) == wanted:
                break
            try:
                signers.append(self._opened(name, key))
            except CustodyError as error:
                errors.append(error)
        if len(signers) >= wanted:
            return signers
        if len(keys) == len(errors) == 1:
            raise errors[0]
        told = "; ".join(map(str, errors)) or "no others are in the keyring"
        raise KeyNotHere(f"{wanted} {name} keys must sign and {len(signers)} can be reached: {told}") from (
            errors[0] if errors else None
        )

    def _opened(self, name: str, key: RoleKey) -> Signer:
        at = (name, key.uri, key.public.keyid)
        if at not in self._open:
            self._open[at] = self._signer(name, key)
        return self._open[at]

    def _signer(self, name: str, key: RoleKey) -> Signer:
        if key.uri is None:
            raise KeyNotHere(
                f"the {name} key {key.public.keyid[:8]} is held by a person and never here; "
                "let them sign a draft of the change"
            )
        scheme, _, rest = key.uri.partition(":")
        if scheme != SCHEME:
            return open_store(name, key.uri, key.public, lambda _: self.pin_of(name))
        place, _, file = rest.partition("/")
        if place not in self._folders or not file or Path(file).name != file:
            raise KeyDamaged(
                f"the {name} key's URI is {key.uri!r}, expected {SCHEME}:online/<file> or {SCHEME}:offline/<file>"
            )
        path = self._folders[place] / file
        if not path.is_file():
            raise KeyNotHere(_advice(name, path, offline=place == _OFFLINE_FOLDER))
        return SealedFileSigner.from_priv_key_uri(
            f"{SCHEME}:{path}", key.public, lambda _: self._passphrase(name, place)
        )

    def _passphrase(self, name: str, place: str) -> str:
        given = self._passphrases[place]
        if given is not None:
            return given
        file = self._passphrase_files[place]
        try:
            return file.read_text(encoding="utf-8").strip()
        except FileNotFoundError as error:
            raise KeyLocked(f"the {name} key needs the passphrase in {file}; put it there or give it") from error
        except OSError as error:
            raise KeyLocked(f"{file} could not be read: {error.strerror or error}; look at the disk") from error

    def _ring(self) -> dict[str, RoleKeys]:
        path = self._folder / KEYRING_FILE
        try:
            seen = path.stat()
        except FileNotFoundError as error:
            raise KeyNotHere(f"no keyring at {path}; `publish init` makes one") from error
        stamp = (seen.st_ino, seen.st_mtime_ns, seen.st_size)
        read = self._read
        if read is None or read[0] != stamp:
            # Looked at before it is read: a replacement in between is read twice, never missed.
            self._read = read = (stamp, read_ring(path))
        return read[1]

    @staticmethod
    def _role_of(ring: dict[str, RoleKeys], name: str) -> RoleKeys:
        if name not in ring:
            raise UnknownKey(f"no key is named {name!r}; there are {', '.join(sorted(ring))}")
        return ring[name]


def create_keyring(
    folder: Path,
    offline: Path | None,
    *,
    passphrase: str | None = None,
    offline_passphrase: str | None = None,
    elsewhere: Mapping[str, RoleKeys] | None = None,
) -> Keyring:
    """Make all keys of a laptop's repository, each in an encrypted file of its own, and the keyring that names them.

    Folders get mode 0700, files 0600. A passphrase that is not given is made (256 random bits) and written to the file
    ``passphrase`` beside the keys; one that is given is written nowhere.

    Args:
        folder: For ``keyring.json`` and the online keys (decisions, releases, snapshot, timestamp).
        offline: For root and targets; may be moved away afterwards. None: people keep these keys elsewhere.
        passphrase: For the online keys.
        offline_passphrase: For the offline keys.
        elsewhere: Their public halves by role, if known; noted as they are now, root says who signs later.

    Raises:
        KeyExists: One of the files is there already. ``keyring.json`` is written last: while it is missing, what is
            left in the folders belongs to no repository and may be removed.
        OSError: A file could not be written.
    """
    if (folder / KEYRING_FILE).exists():
        raise KeyExists(f"there is a keyring in {folder} already; nothing was changed")
    make_private_folder(folder / "online")
    ring: dict[str, RoleKeys] = dict(elsewhere or {})
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
            ring[name] = RoleKeys((RoleKey(f"{SCHEME}:{place}/{name}.pem", public),))
    create_ring(folder / KEYRING_FILE, ring)
    return Keyring(folder, offline, passphrase=passphrase, offline_passphrase=offline_passphrase)


def _advice(name: str, path: Path, *, offline: bool) -> str:
    if offline:
        return (
            f"the {name} key is kept offline and is not at {path}; "
            "bring the offline folder back for this step, or name the folder where it is"
        )
    return f"the {name} key is not at {path}; restore it from the backup, the server cannot sign without it"
