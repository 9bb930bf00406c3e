"""The stock TUF client, spared what it did before: it verifies the same bytes once, and writes no file as it is.

An idle poll reads what it read a minute ago. The client would parse all of it anew, check each signature, and write its
root and a link to it onto the device's flash.
Source: docs/adr/0161-what-verified-is-remembered.md
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import Any, Final, TypeAlias

from tuf.ngclient import FetcherInterface, Updater

MAX_REMEMBERED: Final = 512 * 1024  # bytes of metadata; as objects they take some times more

Loaded: TypeAlias = tuple[Any, bytes, Any]
"""What the client makes of metadata: its content, the bytes that are signed, and the signatures."""


class Verified:
    """What verified, by its bytes, its role and the bytes of who delegated to it. Any thread may ask.

    Whether some bytes are signed as others demand never changes, so it is the one thing that is remembered. Versions,
    expiry, lengths and hashes are held against the present at every refresh: that the client does outside of this.
    What is handed out is shared and must not be changed; the client does not.
    """

    def __init__(self, most: int = MAX_REMEMBERED) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._length = 0
        self._loaded: OrderedDict[tuple[Any, ...], tuple[int, Loaded]] = OrderedDict()

    def get(self, key: tuple[Any, ...]) -> Loaded | None:
        """What was kept, if it still is."""
        with self._lock:
            found = self._loaded.get(key)
            if found is None:
                return None
            self._loaded.move_to_end(key)
            return found[1]

    def keep(self, key: tuple[Any, ...], loaded: Loaded, length: int) -> None:
        """Keep it, instead of what was asked for least lately; what is larger than all may be is not kept."""
        if length > self._most:
            return
        with self._lock:
            if key not in self._loaded:
                self._length += length
                self._loaded[key] = (length, loaded)
            while self._length > self._most:
                self._length -= self._loaded.popitem(last=False)[1][0]


_VERIFIED: Final = Verified()


class SparingUpdater(Updater):
    """As ``Updater``, told by its bytes what verified before, by this or another updater of the process."""

    def __init__(
        self,
        metadata_dir: str,
        metadata_base_url: str,
        target_dir: str,
        target_base_url: str,
        fetcher: FetcherInterface,
        *,
        bootstrap: bytes,
        verified: Verified = _VERIFIED,
    ) -> None:
        super().__init__(metadata_dir, metadata_base_url, target_dir, target_base_url, fetcher, bootstrap=bootstrap)
        trusted: Any = self._trusted_set
        self._verified = verified
        self._load_plainly = trusted._load_data
        trusted._load_data = self._load
        # By identity, and with the object: another must not get the place of one that is gone.
        self._bytes_of: dict[int, tuple[Any, bytes]] = {id(trusted.root): (trusted.root, bootstrap)}

    def _load(self, role: Any, data: bytes, delegator: Any = None, role_name: str | None = None) -> Loaded:
        _, demands = self._bytes_of.get(id(delegator), (None, None))
        key = (role, role_name, data, demands)
        loaded = self._verified.get(key) if demands is not None else None
        if loaded is None:
            loaded = self._load_plainly(role, data, delegator, role_name)
            if demands is not None:
                self._verified.keep(key, loaded, len(data))
        self._bytes_of[id(loaded[0])] = (loaded[0], data)
        return loaded

    def _persist_file(self, filename: str, data: bytes) -> None:
        try:
            with open(filename, "rb") as file:
                if file.read(len(data) + 1) == data:
                    return
        except FileNotFoundError:
            pass
        super()._persist_file(filename, data)

    def _update_root_symlink(self) -> None:
        try:
            is_so = os.readlink(f"{self._dir}/root.json") == f"root_history/{self._trusted_set.root.version}.root.json"
        except OSError:  # none, or a file: where links are not to be had
            is_so = False
        if not is_so:
            super()._update_root_symlink()
