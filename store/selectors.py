"""Selectors as SQL: the answer that ``fleet.selector.Selector.holds`` gives device by device, values always bound."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, and_, exists, false, not_, or_

from fleet.selector import Fact, Relation, Selector, Term
from fleet.version_order import order_key
from store.models import device_labels, device_running, devices, group_devices, groups

_NEGATIVE: Final = frozenset({Relation.NOT_IN, Relation.NOT_EXISTS})


def selected(org: str, selector: Selector, now: datetime) -> ColumnElement[bool]:
    """What a row of ``devices`` must meet to be in. Each term is an EXISTS by primary key: PostgreSQL makes
    (anti-)joins of them, and SQLite looks each device up once."""
    return and_(devices.c.org == org, *(_met(org, term, now) for term in selector.terms))


def _met(org: str, term: Term, now: datetime) -> ColumnElement[bool]:
    if term.fact is Fact.LAST_SEEN:
        edge, seen = now - term.span, devices.c.last_seen_at
        if term.relation is Relation.BELOW:
            return and_(seen.is_not(None), seen > edge)
        return or_(seen.is_(None), seen < edge)
    has = _has(org, term)
    return not_(has) if term.relation in _NEGATIVE else has


def _has(org: str, term: Term) -> ColumnElement[bool]:
    match term.fact:
        case Fact.LABEL:
            there = [device_labels.c.device == devices.c.id, device_labels.c.name == term.name]
            if term.values:
                there.append(device_labels.c.value.in_(term.values))
            return exists().where(*there)
        case Fact.PLATFORM:
            return devices.c.platform.in_(term.values)
        case Fact.PRODUCT:
            return exists().where(device_running.c.device == devices.c.id, device_running.c.product.in_(term.values))
        case Fact.VERSION:
            return exists().where(
                device_running.c.device == devices.c.id,
                device_running.c.product == term.name,
                _compared(term),
            )
        case Fact.GROUP:
            # By name, static groups only: a selector may not look at another, so there is no order to evaluate them in.
            # Under names of their own, or they would be taken for those of the statement around it.
            member, named = group_devices.alias("term_member"), groups.alias("term_group")
            return exists().where(
                member.c.device == devices.c.id,
                member.c.group_id == named.c.id,
                named.c.org == org,
                named.c.name.in_(term.values),
            )
        case Fact.LAST_SEEN:
            return false()


def _compared(term: Term) -> ColumnElement[bool]:
    mine, wanted = device_running.c.order_key, [order_key(value) for value in term.values]
    match term.relation:
        case Relation.BELOW:
            return mine < wanted[0]
        case Relation.UP_TO:
            return mine <= wanted[0]
        case Relation.ABOVE:
            return mine > wanted[0]
        case Relation.FROM:
            return mine >= wanted[0]
        case _:
            return mine.in_(wanted)
