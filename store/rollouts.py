"""Rollouts at rest: compare-and-set on the revision, one intent at a time, counters kept with the reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, case, delete, exists, insert, literal, null, select, update

from evidence.model import AuditEvent
from rollout.errors import RolloutChanged, UnknownRollout
from rollout.model import Counters, DeviceProgress, Rollout, State
from rollout.ports import Intent, ProgressChange
from rollout.stored import intent_from_dict, intent_to_dict, rollout_from_dict, rollout_to_dict
from store.audit import append, events_of
from store.columns import UtcDateTime
from store.database import Database
from store.failures import FailureGroup, failures_of
from store.leases import Lease, holds, keep
from store.models import rollout_devices, rollout_groups, rollout_intents, rollouts
from store.progress import (
    DeviceFilter,
    count_devices_of,
    counters_of,
    counters_of_all,
    devices_of,
    recounted,
    stalled_of,
    step,
)
from store.rollout_lists import RolloutFilter, counted, listed

EVERY: Final = RolloutFilter()
MOVING = (State.WAITING, State.RUNNING)
UNDER_WAY = (State.WAITING, State.RUNNING, State.PAUSED)


class SqlRollouts:
    """Fulfils ``rollout.ports.Rollouts``, and answers what lists and checks ask beyond it.

    With a lease (:meth:`under`) every decision is written only while the lease is held, in the same transaction that
    renews it; what was signed already is settled all the same.
    """

    def __init__(self, database: Database, lease: Lease | None = None) -> None:
        self._database = database
        self._lease = lease

    def under(self, lease: Lease) -> SqlRollouts:
        """The same rollouts for who may act only while ``lease`` is held: without it, RolloutChanged."""
        return SqlRollouts(self._database, lease)

    def get(self, org: str, rollout_id: str) -> Rollout:
        """Raises UnknownRollout, also for another organisation's."""
        with self._database.read() as connection:
            return _read(connection, org, rollout_id)

    def list(
        self,
        org: str,
        wanted: RolloutFilter = EVERY,
        *,
        sort: str = "-created_at",
        after: str | None,
        limit: int,
    ) -> Sequence[Rollout]:
        """One page in the order ``sort`` (one of ``rollout_lists.SORTS``), beginning behind the place ``after``."""
        with self._database.read() as connection:
            found = connection.execute(listed(org, wanted, sort, after, limit)).scalars()
            return [rollout_from_dict(document) for document in found]

    def count(self, org: str, wanted: RolloutFilter = EVERY) -> int:
        """How many rollouts the filter leaves."""
        with self._database.read() as connection:
            return connection.execute(counted(org, wanted)).scalar_one()

    def add(self, rollout: Rollout, event: AuditEvent) -> None:
        """Store a new rollout together with its first event."""
        with self._database.write() as connection:
            connection.execute(
                insert(rollouts),
                {"id": rollout.id, "org": rollout.org, "created_at": rollout.created_at, **_columns(rollout)},
            )
            _name_groups(connection, rollout)
            _mark_opened(connection, rollout)
            append(connection, rollout.org, [event])

    def save(self, after: Rollout, events: Sequence[AuditEvent], *, seen: int) -> None:
        """Store state and events; raises RolloutChanged unless the stored revision is ``seen`` and no intent stands."""
        with self._database.write() as connection:
            self._check_lease(connection)
            plan_hash = _claim(connection, after.org, after.id, seen)
            _replace(connection, after, plan_hash)
            append(connection, after.org, events)

    def propose(self, intent: Intent) -> None:
        """Write the intent; raises RolloutChanged unless the stored revision is ``intent.seen`` and none stands."""
        after = intent.after
        with self._database.write() as connection:
            self._check_lease(connection)
            _claim(connection, after.org, after.id, intent.seen)
            # From now on and not from the settling: the wave is served before it is saved.
            _mark_opened(connection, after)
            connection.execute(
                insert(rollout_intents),
                {
                    "rollout": after.id,
                    "id": intent.id,
                    "org": after.org,
                    "proposed_at": intent.proposed_at,
                    "document": intent_to_dict(intent),
                },
            )

    def standing(self, intent: Intent) -> bool:
        """Whether this very intent still stands (asked under the repository lock, just before signing)."""
        with self._database.read() as connection:
            if self._lease is not None and not holds(connection, self._lease):
                return False
            return bool(connection.execute(select(exists().where(rollout_intents.c.id == intent.id))).scalar_one())

    def settle(self, intent: Intent) -> None:
        """Save ``after`` and the events and remove the intent; does nothing when it does not stand any more."""
        after = intent.after
        with self._database.write() as connection:
            _, plan_hash = _lock(connection, after.org, after.id)
            if _remove(connection, intent):
                _replace(connection, after, plan_hash)
                append(connection, after.org, intent.events)

    def drop(self, intent: Intent) -> None:
        """Remove the intent; the rollout stays as it was."""
        with self._database.write() as connection:
            _lock(connection, intent.after.org, intent.after.id)
            if _remove(connection, intent):
                _mark_opened(connection, _read(connection, intent.after.org, intent.after.id))

    def intents(self, org: str) -> Sequence[Intent]:
        """All standing intents, oldest first."""
        query = (
            select(rollout_intents.c.document)
            .where(rollout_intents.c.org == org)
            .order_by(rollout_intents.c.proposed_at, rollout_intents.c.id)
        )
        with self._database.read() as connection:
            return [intent_from_dict(document) for document in connection.execute(query).scalars()]

    def moving(self, org: str) -> Sequence[str]:
        """Ids of rollouts that are waiting or running, oldest first."""
        query = select(rollouts.c.id).where(rollouts.c.org == org, rollouts.c.state.in_(MOVING)).order_by(rollouts.c.id)
        with self._database.read() as connection:
            return [*connection.execute(query).scalars()]

    def overlapping(self, org: str, product: str, groups: Sequence[str]) -> Sequence[Rollout]:
        """Rollouts of this product that are waiting, running or paused and have a wave in one of the groups."""
        named = exists().where(rollout_groups.c.rollout == rollouts.c.id, rollout_groups.c.name.in_(groups))
        query = (
            select(rollouts.c.document)
            .where(rollouts.c.org == org, rollouts.c.product == product, rollouts.c.state.in_(UNDER_WAY), named)
            .order_by(rollouts.c.id)
        )
        with self._database.read() as connection:
            return [rollout_from_dict(document) for document in connection.execute(query).scalars()]

    def counters(self, rollout_id: str) -> Mapping[int, Counters]:
        """Counters by wave number; a wave nobody reported in is absent."""
        with self._database.read() as connection:
            return counters_of(connection, rollout_id)

    def counters_of(self, rollout_ids: Sequence[str]) -> Mapping[str, Mapping[int, Counters]]:
        """As :meth:`counters`, for several rollouts (a page of them) at once."""
        with self._database.read() as connection:
            return counters_of_all(connection, rollout_ids)

    def stalled(self, rollout_id: str, wave: int, *, before: datetime) -> int:
        """How many devices of the wave are downloading or installing, and said so at ``before`` or earlier."""
        with self._database.read() as connection:
            return stalled_of(connection, rollout_id, wave, before)

    def recount(self, org: str, rollout_id: str) -> tuple[Mapping[int, Counters], Mapping[int, Counters]]:
        """The counters as kept, and as the devices' rows give them: equal unless something is broken.

        Both of one moment. Raises UnknownRollout.
        """
        with self._database.read() as connection:
            _read(connection, org, rollout_id)
            return counters_of(connection, rollout_id), recounted(connection, rollout_id)

    def reported_elsewhere(self, rollout: Rollout, devices: Sequence[str]) -> Mapping[str, Sequence[Rollout]]:
        """Of these devices, those that reported in other rollouts of the product, and in which."""
        others = select(rollouts.c.id).where(
            rollouts.c.org == rollout.org,
            rollouts.c.product == rollout.plan.product,
            rollouts.c.id != rollout.id,
        )
        rows = select(rollout_devices.c.device, rollout_devices.c.rollout).where(
            rollout_devices.c.rollout.in_(others), rollout_devices.c.device.in_(devices)
        )
        found: dict[str, list[Rollout]] = {}
        read: dict[str, Rollout] = {}
        with self._database.read() as connection:
            for row in connection.execute(rows.order_by(rollout_devices.c.device, rollout_devices.c.rollout)).all():
                if row.rollout not in read:
                    read[row.rollout] = _read(connection, rollout.org, row.rollout)
                found.setdefault(row.device, []).append(read[row.rollout])
        return found

    def update_progress(self, org: str, rollout_id: str, device: str, change: ProgressChange) -> bool:
        """Read the device's row, ask ``change`` for the new one, write row and counters in one transaction.

        Other devices' may be in the same transaction.

        ``change`` gets ``None`` for a device that has not reported, and answers ``None`` when nothing moves (the
        return is then False). It may be asked again when another report of the device came in between.
        Raises UnknownRollout.
        """
        return self._database.write_together(
            lambda connection: step(connection, _read(connection, org, rollout_id), device, change)
        )

    def devices(
        self, org: str, rollout_id: str, wanted: DeviceFilter | None = None, *, after: str | None, limit: int
    ) -> Sequence[DeviceProgress]:
        """Devices that reported, in order of id, beginning behind ``after``; raises UnknownRollout."""
        with self._database.read() as connection:
            _require(connection, org, rollout_id)
            return devices_of(connection, rollout_id, wanted or DeviceFilter(), after=after, limit=limit)

    def count_devices(self, org: str, rollout_id: str, wanted: DeviceFilter) -> int:
        """How many devices the filter leaves; raises UnknownRollout."""
        with self._database.read() as connection:
            _require(connection, org, rollout_id)
            return count_devices_of(connection, rollout_id, wanted)

    def failures(self, org: str, rollout_id: str, *, wave: int | None = None, limit: int) -> Sequence[FailureGroup]:
        """Devices that stand failed or rolled back, grouped by code, the most first; raises UnknownRollout."""
        with self._database.read() as connection:
            _require(connection, org, rollout_id)
            return failures_of(connection, rollout_id, wave=wave, limit=limit)

    def events(self, org: str, rollout_id: str) -> Sequence[AuditEvent]:
        """The rollout's audit events, in order."""
        with self._database.read() as connection:
            return events_of(connection, org, rollout_id)

    def _check_lease(self, connection: Connection) -> None:
        if self._lease is not None and not keep(connection, self._lease):
            raise RolloutChanged(f"the lease {self._lease.name} was lost; its next holder looks anew")


# Made once: putting it together takes longer than running it.
_DOCUMENT: Final = select(rollouts.c.document).where(
    rollouts.c.org == bindparam("of"), rollouts.c.id == bindparam("wanted")
)


def _read(connection: Connection, org: str, rollout_id: str) -> Rollout:
    document = connection.execute(_DOCUMENT, {"of": org, "wanted": rollout_id}).scalar_one_or_none()
    if document is None:
        raise UnknownRollout(f"no rollout {rollout_id}")
    return rollout_from_dict(document)


def _require(connection: Connection, org: str, rollout_id: str) -> None:
    query = select(rollouts.c.id).where(rollouts.c.org == org, rollouts.c.id == rollout_id)
    if connection.execute(query).first() is None:
        raise UnknownRollout(f"no rollout {rollout_id}")


def _lock(connection: Connection, org: str, rollout_id: str) -> tuple[int, str]:
    """Revision and plan hash; nobody else saves, proposes, settles or drops until the transaction ends."""
    query = (
        select(rollouts.c.revision, rollouts.c.plan_hash)
        .where(rollouts.c.org == org, rollouts.c.id == rollout_id)
        .with_for_update()
    )
    row = connection.execute(query).first()
    if row is None:
        raise UnknownRollout(f"no rollout {rollout_id}")
    return row.revision, row.plan_hash


def _claim(connection: Connection, org: str, rollout_id: str, seen: int) -> str:
    # The lock comes first and the intent is looked for in a statement of its own: in one statement, PostgreSQL would
    # judge the intent by what was there before it waited for the lock.
    revision, plan_hash = _lock(connection, org, rollout_id)
    if revision != seen:
        raise RolloutChanged(f"{rollout_id} is at revision {revision}, not {seen}; look again and decide afresh")
    if connection.execute(select(exists().where(rollout_intents.c.rollout == rollout_id))).scalar_one():
        raise RolloutChanged(f"another change of {rollout_id} is being signed; look again in a moment")
    return plan_hash


def _replace(connection: Connection, after: Rollout, plan_hash: str) -> None:
    connection.execute(update(rollouts).where(rollouts.c.id == after.id).values(**_columns(after)))
    if after.plan_hash != plan_hash:
        connection.execute(delete(rollout_groups).where(rollout_groups.c.rollout == after.id))
        _name_groups(connection, after)
    _mark_opened(connection, after)


def _mark_opened(connection: Connection, rollout: Rollout) -> None:
    """Note on the groups that a wave has reached when the rollout last opened one; O(groups)."""
    opened = [wave.opened_at for wave in rollout.waves if wave.opened_at is not None]
    reached = {plan.group for plan, wave in zip(rollout.plan.waves, rollout.waves, strict=False) if wave.opened_at}
    is_reached = rollout_groups.c.name.in_(sorted(reached))
    marked = case((is_reached, literal(max(opened), UtcDateTime)), else_=None) if opened else null()
    connection.execute(update(rollout_groups).where(rollout_groups.c.rollout == rollout.id).values(opened_at=marked))


def _remove(connection: Connection, intent: Intent) -> bool:
    removed = connection.execute(delete(rollout_intents).where(rollout_intents.c.id == intent.id))
    return removed.rowcount == 1


def _name_groups(connection: Connection, rollout: Rollout) -> None:
    names = sorted({wave.group for wave in rollout.plan.waves})
    if names:
        rows = [{"rollout": rollout.id, "name": name, "org": rollout.org} for name in names]
        connection.execute(insert(rollout_groups), rows)


def _columns(rollout: Rollout) -> dict[str, object]:
    return {
        "product": rollout.plan.product,
        "channel": rollout.plan.channel,
        "state": rollout.state.value,
        "revision": rollout.revision,
        "plan_hash": rollout.plan_hash,
        "document": rollout_to_dict(rollout),
    }
