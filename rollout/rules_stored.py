"""Exclusions, freezes and templates as JSON values and back, exactly. Reading raises ValueError for what is garbled."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from evidence.model import Actor
from rollout.exclusion import Exclusion, Kind
from rollout.freezing import Freeze
from rollout.model import wave_to_dict
from rollout.plan import wave_from_dict
from rollout.stored import time_to_text
from rollout.templates import Template
from rollout.windows import window_from_dict, window_to_dict


def exclusion_to_dict(one: Exclusion) -> dict[str, object]:
    """JSON values only."""
    return {
        "id": one.id,
        "org": one.org,
        "reason": one.reason,
        "by": one.by.to_dict(),
        "at": time_to_text(one.at),
        "kind": one.kind.value,
        "device": one.device,
        "group": one.group,
        "product": one.product,
        "version": one.version,
        "package": one.package,
        "until": None if one.until is None else time_to_text(one.until),
        "matched": dict(one.matched),
    }


def exclusion_from_dict(stored: Mapping[str, Any]) -> Exclusion:
    """What :func:`exclusion_to_dict` was given."""
    return Exclusion(
        id=stored["id"],
        org=stored["org"],
        reason=stored["reason"],
        by=Actor.from_dict(stored["by"]),
        at=datetime.fromisoformat(stored["at"]),
        kind=Kind(stored["kind"]),
        device=stored["device"],
        group=stored["group"],
        product=stored["product"],
        version=stored["version"],
        package=stored["package"],
        until=None if stored["until"] is None else datetime.fromisoformat(stored["until"]),
        matched=dict(stored["matched"]),
    )


def freeze_to_dict(one: Freeze) -> dict[str, object]:
    """JSON values only."""
    return {
        "id": one.id,
        "org": one.org,
        "reason": one.reason,
        "by": one.by.to_dict(),
        "at": time_to_text(one.at),
        "product": one.product,
        "starts": None if one.starts is None else time_to_text(one.starts),
        "ends": None if one.ends is None else time_to_text(one.ends),
        "weekly": None if one.weekly is None else window_to_dict(one.weekly),
    }


def freeze_from_dict(stored: Mapping[str, Any]) -> Freeze:
    """What :func:`freeze_to_dict` was given."""
    return Freeze(
        id=stored["id"],
        org=stored["org"],
        reason=stored["reason"],
        by=Actor.from_dict(stored["by"]),
        at=datetime.fromisoformat(stored["at"]),
        product=stored["product"],
        starts=None if stored["starts"] is None else datetime.fromisoformat(stored["starts"]),
        ends=None if stored["ends"] is None else datetime.fromisoformat(stored["ends"]),
        weekly=None if stored["weekly"] is None else window_from_dict(stored["weekly"]),
    )


def template_to_dict(one: Template) -> dict[str, object]:
    """JSON values only."""
    return {
        "org": one.org,
        "name": one.name,
        "description": one.description,
        "waves": [wave_to_dict(wave) for wave in one.waves],
        "by": one.by.to_dict(),
        "at": time_to_text(one.at),
    }


def template_from_dict(stored: Mapping[str, Any]) -> Template:
    """What :func:`template_to_dict` was given."""
    return Template(
        org=stored["org"],
        name=stored["name"],
        description=stored["description"],
        waves=tuple(wave_from_dict(wave) for wave in stored["waves"]),
        by=Actor.from_dict(stored["by"]),
        at=datetime.fromisoformat(stored["at"]),
    )
