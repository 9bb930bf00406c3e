"""The device CA of a home, looked at and rotated on the server's own machine."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta

from api.backup import OPERATOR
from api.settings import Settings
from api.wiring import check_home, device_ca_folder, open_database
from evidence.model import AuditEvent
from keys import device_ca_rotation
from keys.authorities import Authority, issuing, read_authorities
from keys.device_ca import CLOCK_SKEW
from keys.errors import DeviceCaRotationRefused
from store.audit import AuditLog
from store.database import Database
from store.organisations import Organisations
from store.renewals import not_renewed

NAMED_AT_MOST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Custody:
    """The CAs, oldest first, and during a rotation who holds no certificate of the newest yet: count, first names."""

    authorities: Sequence[Authority]
    issuing: Authority
    behind: int = 0
    behind_named: Sequence[str] = ()


def custody_of(settings: Settings, *, now: datetime) -> Custody:
    """What there is; raises NotInitialised, DeviceCaUnusable, StoreError."""
    with _database(settings) as db:
        return _custody(settings, db, now)


def rotate(settings: Settings, *, key: str, after: timedelta, now: datetime) -> Custody:
    """Begin a rotation, told in the log of every organisation as ``device_ca.rotated``.

    Raises:
        NotInitialised, StoreError: As :func:`custody_of`.
        CustodyError: As :func:`keys.device_ca_rotation.rotate`; nothing has changed.
    """
    with _database(settings) as db:
        made = device_ca_rotation.rotate(device_ca_folder(settings), now=now, after=after, key=key)
        _tell(db, "device_ca.rotated", made, now)
        return _custody(settings, db, now)


def finish(settings: Settings, *, anyway: bool, now: datetime) -> Custody:
    """End a rotation, told as ``device_ca.rotation.finished``.

    Args:
        settings: Of the home.
        anyway: Though devices would have to enrol again.
        now: For the times.

    Raises:
        DeviceCaRotationRefused: Devices have not renewed, none is under way, or it is too early.
        NotInitialised, StoreError, DeviceCaUnusable: As :func:`custody_of`.
    """
    with _database(settings) as db:
        custody = _custody(settings, db, now)
        if custody.behind and not anyway:
            named = ", ".join(custody.behind_named)
            raise DeviceCaRotationRefused(
                f"devices hold no certificate of the new device CA yet: {custody.behind}, {named}"
                f"{', …' if custody.behind > len(custody.behind_named) else ''}; they renew by themselves when they "
                "call, at two thirds of a certificate's life. --anyway shuts them out: they enrol again"
            )
        device_ca_rotation.finish(device_ca_folder(settings), now=now)
        after = _custody(settings, db, now)
        _tell(db, "device_ca.rotation.finished", after.issuing, now)
        return after


def _database(settings: Settings) -> closing[Database]:
    check_home(settings)
    return closing(open_database(settings))


def _custody(settings: Settings, db: Database, now: datetime) -> Custody:
    authorities = read_authorities(device_ca_folder(settings))
    newest = authorities[-1]
    count, named = 0, tuple[str, ...]()
    if len(authorities) > 1:
        db.migrate()
        count, named = not_renewed(db, newest.issues_from - CLOCK_SKEW, now=now, limit=NAMED_AT_MOST)
    return Custody(authorities=authorities, issuing=issuing(authorities, now), behind=count, behind_named=named)


def _tell(db: Database, tag: str, authority: Authority, now: datetime) -> None:
    told = {"sha256": authority.sha256, "key": authority.key, "issues_from": authority.issues_from_text}
    db.migrate()
    for one in Organisations(db).all():
        AuditLog(db).append(one.slug, [AuditEvent(tag, one.slug, OPERATOR, now, told)])
