"""Who may update now under a rollout's disruption budget."""

from __future__ import annotations

import json
from datetime import datetime

from flask import Response
from pydantic import BaseModel, Field

from api.auth.permissions import Permission
from api.errors import ApiError
from api.operator.routes import (
    IdPath,
    Page,
    PageQuery,
    Routes,
    decode_cursor,
    now,
    page,
    reply_page,
    services,
)

api = Routes("rollout_permits", "Rollouts")


class PermitShown(BaseModel):
    """A device that may update: it asked, and has neither reported its result nor let the permit run out."""

    value: str = Field(description="what the device's label had when it began; empty without the label")
    device_id: str
    device_name: str
    rollout_id: str = Field(description="also of other rollouts: budgets over one label share their permits")
    attempt: int
    granted_at: datetime
    expires_at: datetime


@api.on(
    "GET",
    "/rollouts/{id}/permits",
    Page[PermitShown],
    permission=Permission.ROLLOUTS_READ,
    errors=("rollout_not_found",),
)
def list_rollout_permits(path: IdPath, query: PageQuery) -> Response:
    """List who may update now, by value of the budget's label"""
    org = services().org
    budget = services().rollout_store.get(org, path.id).plan.budget
    after = _place(decode_cursor(query.cursor))
    moment = now()
    rows = services().permits.rows
    found = [] if budget is None else rows.held(org, budget.label, now=moment, after=after, limit=query.limit + 1)
    total = None
    if query.total:
        total = 0 if budget is None else sum(rows.updating(org, budget.label, now=moment).values())
    names = services().fleet.names(org, [one.device for one in found])
    shown = [
        PermitShown(
            value=one.value,
            device_id=one.device,
            device_name=names.get(one.device, ""),
            rollout_id=one.rollout,
            attempt=one.attempt,
            granted_at=one.granted_at,
            expires_at=one.expires_at,
        )
        for one in found
    ]
    return reply_page(page(shown, query.limit, _cursor, total))


def _cursor(shown: PermitShown) -> str:
    return json.dumps([shown.value, shown.device_id, shown.rollout_id])


def _place(cursor: str | None) -> tuple[str, str, str] | None:
    if cursor is None:
        return None
    try:
        value, device, rollout = map(str, json.loads(cursor))
    except (TypeError, ValueError):
        raise ApiError(400, "invalid_cursor", "the cursor is not one of ours; begin again without a cursor") from None
    return value, device, rollout
