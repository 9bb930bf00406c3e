"""What an open wave does not count yet: members whom an edit put into its group after it opened.

Nothing is written for it and nothing to be undone: it follows from when the edit came and when waves opened.
Source: docs/adr/0095-edits-never-widen-an-open-wave.md
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, bindparam, exists, func, select

from fleet.model import DeviceStatus
from rollout.model import FINAL_STATES
from store.models import devices, group_devices, group_sizes, groups, rollout_groups, rollouts

_MEMBER: Final = group_devices.c


def _held() -> ColumnElement[bool]:
    """Whether a row of ``group_devices``, joined to ``groups``, is held back: an edit put it there while a rollout that
    is not over had a wave open on the group, and that rollout has opened none since."""
    since = exists().where(
        rollout_groups.c.org == groups.c.org,
        rollout_groups.c.name == groups.c.name,
        rollout_groups.c.opened_at <= _MEMBER.edited_at,
        rollouts.c.id == rollout_groups.c.rollout,
        rollouts.c.state.not_in(FINAL_STATES),
    )
    return and_(_MEMBER.edited_at.is_not(None), since.correlate(groups, group_devices))


def _size() -> Select[Any]:
    """How many active members count: the kept number less those held back, who are few and found by their index."""
    first_open = (
        select(func.min(rollout_groups.c.opened_at))
        .join_from(rollout_groups, rollouts, rollouts.c.id == rollout_groups.c.rollout)
        .where(
            rollout_groups.c.org == groups.c.org,
            rollout_groups.c.name == groups.c.name,
            rollouts.c.state.not_in(FINAL_STATES),
        )
        .correlate(groups)
        .scalar_subquery()
    )
    waiting = (
        select(func.count())
        .select_from(group_devices)
        .join(devices, devices.c.id == _MEMBER.device)
        .where(
            _MEMBER.group_id == groups.c.id,
            _MEMBER.edited_at >= first_open,
            devices.c.status == DeviceStatus.ACTIVE.value,
        )
        .correlate(groups)
        .scalar_subquery()
    )
    return (
        select(group_sizes.c.active - waiting)
        .join_from(groups, group_sizes, group_sizes.c.group_id == groups.c.id)
        .where(groups.c.org == bindparam("org"), groups.c.name == bindparam("name"))
    )


# Made once: putting such a statement together takes longer than running it. Parameters: org, and name or device.
HELD: Final = _held()
SIZE: Final = _size()
TOLD: Final = (
    select(groups.c.name)
    .join_from(groups, group_devices, _MEMBER.group_id == groups.c.id)
    .where(groups.c.org == bindparam("org"), _MEMBER.device == bindparam("device"), ~HELD)
)
