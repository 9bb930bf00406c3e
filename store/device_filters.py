"""What a list of devices is narrowed to, as SQL; values always bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, exists, or_
from sqlalchemy.sql import Select

from fleet.errors import InvalidFleetInput
from store.models import device_labels, devices, group_devices, groups

MAX_WORDS: Final = 8  # of one search; each is looked for in every device until a page is full


def filtered(query: Select[Any], org: str, filters: Mapping[str, str]) -> Select[Any]:
    """The query for the organisation's devices that meet all filters; raises InvalidFleetInput for an unknown one."""
    unknown = sorted(set(filters) - set(_CONDITIONS))
    if unknown:
        raise InvalidFleetInput(f"no filter {unknown[0]!r} for devices; there are {', '.join(_CONDITIONS)}")
    return query.where(devices.c.org == org, *(_CONDITIONS[name](org, wanted) for name, wanted in filters.items()))


def _of_label(_org: str, wanted: str) -> ColumnElement[bool]:
    label, _, value = wanted.partition("=")
    told = device_labels.c
    return exists().where(told.device == devices.c.id, told.name == label, told.value == value)


def _of_group(org: str, wanted: str) -> ColumnElement[bool]:
    # Asked device by device: a page then ends at its last one, where IN would first read all members.
    return exists().where(
        group_devices.c.device == devices.c.id,
        group_devices.c.group_id == groups.c.id,
        groups.c.org == org,
        or_(groups.c.name == wanted, groups.c.id == wanted),
    )


def _searched(_org: str, wanted: str) -> ColumnElement[bool]:
    words = wanted.split()
    if len(words) > MAX_WORDS:
        raise InvalidFleetInput(f"the search has {len(words)} words, at most {MAX_WORDS} are looked for")
    return and_(True, *(_has_word(word) for word in words))


def _has_word(word: str) -> ColumnElement[bool]:
    told = device_labels.c
    label = told.name + "=" + told.value
    return or_(
        devices.c.name.icontains(word, autoescape=True),
        devices.c.hostname.icontains(word, autoescape=True),
        exists().where(told.device == devices.c.id, label.icontains(word, autoescape=True)),
    )


def _unseen(_org: str, wanted: str) -> ColumnElement[bool]:
    seen = devices.c.last_seen_at
    return or_(seen.is_(None), seen < datetime.fromisoformat(wanted))


_CONDITIONS: Final[Mapping[str, Callable[[str, str], ColumnElement[bool]]]] = {
    "status": lambda _org, wanted: devices.c.status == wanted,
    "platform": lambda _org, wanted: devices.c.platform == wanted,
    "group": _of_group,
    "name": lambda _org, wanted: devices.c.name.icontains(wanted, autoescape=True),
    "label": _of_label,
    "q": _searched,
    "seen_since": lambda _org, wanted: devices.c.last_seen_at >= datetime.fromisoformat(wanted),
    "unseen_since": _unseen,
    "os_family": lambda _org, wanted: devices.c.os_family == wanted,
    "os_name": lambda _org, wanted: devices.c.os_name.icontains(wanted, autoescape=True),
}
