"""Another number of bins, online: all targets are signed into new bins, and ``releases`` delegates to those.

One commit like any other: until its timestamp stands, every client sees the old bins, afterwards the new. Who is
halfway goes on with the old files, which stay. The new names begin with a prefix that was never used; the old ones
stay in the snapshot with the version they had, and are not signed again: clients refuse
a snapshot that lost a name.

Source: docs/adr/0040-bins-follow-the-number-of-targets.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from evidence.model import Actor, AuditEvent
from repo_signing import roles
from repo_signing.commit import Committer, Prepared
from repo_signing.errors import WrongLayout
from repo_signing.proof import check_bin
from repo_signing.role_cache import Role, RoleFacts
from repo_signing.sheets import divided, sheet_name
from repo_signing.view import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Bins:
    """How targets are spread. ``bits`` is the power of two; ``wanted_bits`` the best one for ``targets``."""

    bits: int
    wanted_bits: int
    targets: int

    @property
    def is_off(self) -> bool:
        """Whether clients would notice the difference to the best number."""
        return abs(self.bits - self.wanted_bits) >= roles.BITS_OFF


def bins_of(view: View) -> Bins:
    """The bins as they are; the first time in a process it reads every role. Raises WrongLayout."""
    if view.bins_of is None:
        raise WrongLayout(
            "this repository has a role for each product and no bins (`publish init --layout paths`); "
            "what grows too large is a product: spread it over several"
        )
    targets = sum(view.facts(name).targets for name in view.holders() if not roles.is_product(name))
    return Bins(bits=view.bins_of[1], wanted_bits=roles.wanted_bits(targets), targets=targets)


def rebin(committer: Committer, bits: int, *, by: Actor, subject: str, now: datetime) -> int:
    """Sign every target anew into ``2**bits`` bins; returns the serial. Memory stays at a few bins.

    Raises:
        WrongLayout: There are no bins.
        RepositoryError: As from a publish; clients see the state before.
    """
    view = committer.install_alone(now, _Rebinning(committer, bits, by, subject).prepare)
    return view.serial


class _Rebinning:
    """Builds the commit of one re-binning."""

    def __init__(self, committer: Committer, bits: int, by: Actor, subject: str) -> None:
        self._committer: Final = committer
        self._bits: Final = bits
        self._by: Final = by
        self._subject: Final = subject

    def prepare(self, view: View, serial: int, now: datetime) -> Prepared:
        before = bins_of(view)
        prefix = roles.next_prefix(view.bins_of[0] if view.bins_of is not None else "")
        while any(roles.bin_prefix(name) == prefix for name in view.versions):
            prefix = roles.next_prefix(prefix)
        body = roles.rebinned_body(view.role(roles.RELEASES).body, serial, now, prefix=prefix, bits=self._bits)
        keys = roles.as_delegator(body)
        storage, metadata = self._committer.storage, self._committer.metadata
        written: dict[str, RoleFacts] = {}
        with storage.together(metadata) as is_synced:
            for new in self._spread(view, before.bits, prefix):
                files = {}
                for name, targets in new.items():
                    holder = roles.holder_body(name, targets, serial, now)
                    told, sheet = divided(name, holder)
                    content = self._committer.signed_file(name, told, [roles.rule_of(body, name)])
                    check_bin(name, holder, content, keys)
                    files[f"{serial}.{name}.json"] = content
                    if sheet is not None:
                        files[sheet_name(serial, name)] = sheet
                    written[name] = RoleFacts.of(Role.of(name, holder))
                if is_synced:
                    storage.create_unsynced(metadata, files)
                else:
                    storage.create_once(metadata, files)
        told = {"bins": 2**self._bits, "before": 2**before.bits, "targets": before.targets, "serial": serial}
        event = AuditEvent("repository.rebinned", self._subject, self._by, now, told)
        return Prepared({roles.RELEASES: body}, written, [event])

    def _spread(self, view: View, before: int, prefix: str) -> Any:
        """The new bins with their targets, as many at a time as hang together by the leading bits of their hashes."""
        (old_prefix, _) = view.bins_of or ("", 0)
        old_names = list(roles.bin_names(old_prefix, before))
        new_names = list(roles.bin_names(prefix, self._bits))
        groups = 2 ** min(before, self._bits)
        old_share, new_share = len(old_names) // groups, len(new_names) // groups
        for group in range(groups):
            names = new_names[group * new_share : (group + 1) * new_share]
            spread: list[dict[str, Any]] = [{} for _ in names]
            for old in old_names[group * old_share : (group + 1) * old_share]:
                targets: Mapping[str, Any] = view.role(old).body["targets"]
                for path, entry in targets.items():
                    spread[roles.bin_number(path, self._bits) - group * new_share][path] = entry
            yield dict(zip(names, spread, strict=True))
