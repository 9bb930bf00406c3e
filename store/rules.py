"""Exclusions, freeze windows and templates at rest: a document each, by id or name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from evidence.model import AuditEvent
from rollout.errors import InvalidTemplate, UnknownExclusion, UnknownFreeze, UnknownTemplate
from rollout.exclusion import Exclusion
from rollout.freezing import Freeze
from rollout.model import ArtifactRef, State
from rollout.rules_stored import (
    exclusion_from_dict,
    exclusion_to_dict,
    freeze_from_dict,
    freeze_to_dict,
    template_from_dict,
    template_to_dict,
)
from rollout.stored import rollout_from_dict
from rollout.templates import Template
from store.audit import append
from store.columns import insert_if_absent
from store.database import Database
from store.models import artifacts, exclusions, freezes, rollout_templates, rollouts

_OVER = (State.ABORTED, State.SUPERSEDED)


class SqlExclusions:
    """Fulfils ``rollout.excluding.ExclusionRows``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self, org: str) -> Sequence[Exclusion]:
        """All that were not removed, in order of id; those that ran out, too."""
        query = select(exclusions.c.document).where(exclusions.c.org == org).order_by(exclusions.c.id)
        with self._database.read() as connection:
            return [exclusion_from_dict(document) for document in connection.execute(query).scalars()]

    def get(self, org: str, exclusion_id: str) -> Exclusion:
        """Raises UnknownExclusion."""
        with self._database.read() as connection:
            return exclusion_from_dict(_document(connection, org, exclusion_id))

    def add(self, exclusion: Exclusion, events: Sequence[AuditEvent], *, instead_of: Sequence[str] = ()) -> None:
        """Store a new one, and forget those that it takes the place of."""
        row = {"id": exclusion.id, "org": exclusion.org, "document": exclusion_to_dict(exclusion)}
        with self._database.write() as connection:
            connection.execute(
                delete(exclusions).where(exclusions.c.org == exclusion.org, exclusions.c.id.in_(instead_of))
            )
            connection.execute(insert(exclusions), row)
            append(connection, exclusion.org, events)

    def match(self, org: str, exclusion_id: str, matched: Mapping[str, str]) -> None:
        """Store what an exclusion of a package has been found in; raises UnknownExclusion."""
        with self._database.write() as connection:
            document = {**_document(connection, org, exclusion_id), "matched": dict(matched)}
            change = update(exclusions).where(exclusions.c.org == org, exclusions.c.id == exclusion_id)
            connection.execute(change.values(document=document))

    def remove(self, org: str, exclusion_id: str, event: AuditEvent) -> None:
        """Forget one; raises UnknownExclusion."""
        gone = delete(exclusions).where(exclusions.c.org == org, exclusions.c.id == exclusion_id)
        with self._database.write() as connection:
            if not connection.execute(gone).rowcount:
                raise UnknownExclusion(f"no exclusion {exclusion_id}")
            append(connection, org, [event])

    def products(self, org: str) -> Sequence[str]:
        """Products that have artifacts, ascending."""
        query = select(artifacts.c.product).where(artifacts.c.org == org).distinct().order_by(artifacts.c.product)
        with self._database.read() as connection:
            return [*connection.execute(query).scalars()]

    def planned(self, org: str) -> Sequence[tuple[str, ArtifactRef]]:
        """Product and artifact of every plan that is or may yet be offered, each artifact once."""
        query = select(rollouts.c.document).where(rollouts.c.org == org, rollouts.c.state.not_in(_OVER))
        found: dict[str, tuple[str, ArtifactRef]] = {}
        with self._database.read() as connection:
            for document in connection.execute(query).scalars():
                plan = rollout_from_dict(document).plan
                found |= {one.id: (plan.product, one) for one in plan.artifacts.values()}
        return [*found.values()]


class SqlFreezes:
    """Fulfils ``rollout.freezing.FreezeRows``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self, org: str) -> Sequence[Freeze]:
        """All that were not removed, in order of id."""
        query = select(freezes.c.document).where(freezes.c.org == org).order_by(freezes.c.id)
        with self._database.read() as connection:
            return [freeze_from_dict(document) for document in connection.execute(query).scalars()]

    def get(self, org: str, freeze_id: str) -> Freeze:
        """Raises UnknownFreeze."""
        query = select(freezes.c.document).where(freezes.c.org == org, freezes.c.id == freeze_id)
        with self._database.read() as connection:
            document = connection.execute(query).scalar_one_or_none()
            if document is None:
                raise UnknownFreeze(f"no freeze window {freeze_id}")
            return freeze_from_dict(document)

    def add(self, freeze: Freeze, event: AuditEvent) -> None:
        """Store a new one."""
        row = {"id": freeze.id, "org": freeze.org, "document": freeze_to_dict(freeze)}
        with self._database.write() as connection:
            connection.execute(insert(freezes), row)
            append(connection, freeze.org, [event])

    def remove(self, org: str, freeze_id: str, event: AuditEvent) -> None:
        """Forget one; raises UnknownFreeze."""
        gone = delete(freezes).where(freezes.c.org == org, freezes.c.id == freeze_id)
        with self._database.write() as connection:
            if not connection.execute(gone).rowcount:
                raise UnknownFreeze(f"no freeze window {freeze_id}")
            append(connection, org, [event])


class SqlTemplates:
    """Fulfils ``rollout.templates.Templates``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self, org: str) -> Sequence[Template]:
        """In order of name."""
        query = select(rollout_templates.c.document).where(rollout_templates.c.org == org)
        with self._database.read() as connection:
            found = connection.execute(query.order_by(rollout_templates.c.name)).scalars()
            return [template_from_dict(document) for document in found]

    def get(self, org: str, name: str) -> Template:
        """Raises UnknownTemplate."""
        named = (rollout_templates.c.org == org) & (rollout_templates.c.name == name)
        with self._database.read() as connection:
            document = connection.execute(select(rollout_templates.c.document).where(named)).scalar_one_or_none()
            if document is None:
                raise UnknownTemplate(f"no template is named {name}; `publish rollout template list` tells them")
            return template_from_dict(document)

    def add(self, template: Template, event: AuditEvent) -> None:
        """Raises InvalidTemplate when the name is taken."""
        row = {"org": template.org, "name": template.name, "document": template_to_dict(template)}
        with self._database.write() as connection:
            if not insert_if_absent(connection, rollout_templates, row):
                raise InvalidTemplate(f"a template {template.name} exists already; delete it or take another name")
            append(connection, template.org, [event])

    def remove(self, org: str, name: str, event: AuditEvent) -> None:
        """Raises UnknownTemplate."""
        gone = delete(rollout_templates).where(rollout_templates.c.org == org, rollout_templates.c.name == name)
        with self._database.write() as connection:
            if not connection.execute(gone).rowcount:
                raise UnknownTemplate(f"no template is named {name}")
            append(connection, org, [event])


def _document(connection: Connection, org: str, exclusion_id: str) -> dict[str, Any]:
    query = select(exclusions.c.document).where(exclusions.c.org == org, exclusions.c.id == exclusion_id)
    document: dict[str, Any] | None = connection.execute(query).scalar_one_or_none()
    if document is None:
        raise UnknownExclusion(f"no exclusion {exclusion_id}")
    return document
