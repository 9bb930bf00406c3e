"""Freeze windows and rollout templates: an organisation's calendar, and its shapes of a plan."""

from __future__ import annotations

from datetime import datetime

from flask import Response
from pydantic import BaseModel, Field

from api.auth.permissions import Permission
from api.operator.artifacts import By, Segment
from api.operator.plan_schemas import TemplateWave, Window, wave_plan, window, window_shown
from api.operator.routes import (
    Body,
    IdPath,
    Moment,
    Page,
    PageQuery,
    Routes,
    caller,
    decode_cursor,
    now,
    page,
    reply,
    reply_page,
    services,
)
from rollout import freezing, templates
from rollout.model import wave_to_dict

api = Routes("calendar", "Rollouts")


class Freeze(BaseModel):
    """When no wave opens. `frozen_until` is null while it does not hold."""

    id: str
    product: str | None
    starts: datetime | None
    ends: datetime | None
    weekly: Window | None
    frozen_until: datetime | None
    reason: str
    by: By
    at: datetime


class NewFreeze(Body):
    """One span (`starts`, `ends`), or every week (`weekly`); of one product, or of all."""

    product: Segment | None = None
    starts: Moment | None = Field(None, description="now when left out")
    ends: Moment | None = None
    weekly: Window | None = None
    reason: str = Field(max_length=500)


class Template(BaseModel):
    """A shape of a rollout. A wave of the group `*` is made for each group that a rollout names."""

    name: str
    description: str
    built_in: bool
    waves: list[TemplateWave]
    by: By | None
    at: datetime | None


class NewTemplate(Body):
    """A template to store."""

    name: Segment
    description: str = Field("", max_length=500)
    waves: list[TemplateWave] = Field(min_length=1, max_length=500)


class TemplateList(BaseModel):
    """All templates, the built-in ones first."""

    items: list[Template]


@api.on("GET", "/freeze-windows", Page[Freeze], permission=Permission.ROLLOUTS_READ)
def list_freezes(query: PageQuery) -> Response:
    """List freeze windows, oldest first"""
    after = decode_cursor(query.cursor) or ""
    found = services().freezes.rows.all(services().org)
    shown = [_freeze(one) for one in found if one.id > after][: query.limit + 1]
    return reply_page(page(shown, query.limit, lambda item: item.id, len(found) if query.total else None))


@api.on("POST", "/freeze-windows", Freeze, permission=Permission.FREEZES_WRITE, status=201, errors=("invalid_freeze",))
def create_freeze(body: NewFreeze) -> Response:
    """Let no wave open in a span of time, or in a part of every week"""
    made = services().freezes.freeze(
        services().org,
        reason=body.reason,
        by=caller().actor,
        now=now(),
        product=body.product,
        starts=body.starts,
        ends=body.ends,
        weekly=None if body.weekly is None else window(body.weekly),
    )
    return reply(_freeze(made), 201)


@api.on(
    "DELETE",
    "/freeze-windows/{id}",
    None,
    permission=Permission.FREEZES_WRITE,
    status=204,
    errors=("freeze_not_found",),
)
def delete_freeze(path: IdPath) -> Response:
    """Take a freeze window out of the calendar"""
    services().freezes.lift(services().org, path.id, by=caller().actor, now=now())
    return reply(None)


@api.on("GET", "/rollout-templates", TemplateList, permission=Permission.ROLLOUTS_READ)
def list_templates() -> Response:
    """List templates: the built-in ones, then your own"""
    built_in = [
        Template(name=name, description=what, built_in=True, waves=[], by=None, at=None)
        for name, what in templates.BUILT_IN.items()
    ]
    return reply(TemplateList(items=[*built_in, *(_template(one) for one in services().templates.all(services().org))]))


@api.on(
    "POST",
    "/rollout-templates",
    Template,
    permission=Permission.ROLLOUTS_CREATE,
    status=201,
    errors=("invalid_template",),
)
def create_template(body: NewTemplate) -> Response:
    """Store a template"""
    made = templates.create_template(
        services().templates,
        services().org,
        name=body.name,
        description=body.description,
        waves=[wave_plan(one) for one in body.waves],
        by=caller().actor,
        now=now(),
    )
    return reply(_template(made), 201)


@api.on(
    "DELETE",
    "/rollout-templates/{id}",
    None,
    permission=Permission.ROLLOUTS_CREATE,
    status=204,
    errors=("template_not_found",),
)
def delete_template(path: IdPath) -> Response:
    """Delete a template, by name; rollouts made of it stay as they are"""
    templates.delete_template(services().templates, services().org, path.id, by=caller().actor, now=now())
    return reply(None)


def _freeze(one: freezing.Freeze) -> Freeze:
    return Freeze(
        id=one.id,
        product=one.product,
        starts=one.starts,
        ends=one.ends,
        weekly=None if one.weekly is None else window_shown(one.weekly),
        frozen_until=one.until(now()),
        reason=one.reason,
        by=By(kind=one.by.kind.value, id=one.by.id, name=one.by.name),
        at=one.at,
    )


def _template(one: templates.Template) -> Template:
    return Template(
        name=one.name,
        description=one.description,
        built_in=False,
        waves=[TemplateWave.model_validate(wave_to_dict(wave)) for wave in one.waves],
        by=By(kind=one.by.kind.value, id=one.by.id, name=one.by.name),
        at=one.at,
    )
