"""Decisions and brakes out of the signed repository, each held against the name it was found under."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Final

from agent.errors import RepositoryRefused
from agent.trust import View
from rollout.decision import (
    Brake,
    Decision,
    MalformedDocument,
    brake_path,
    decision_path,
    decode_brake,
    decode_decision,
)
from rollout.exclusion import Entry, decode_exclusions, exclusions_path

_LOG: Final = logging.getLogger(__name__)


def decisions_for(view: View, org: str, product: str, groups: Sequence[str]) -> list[Decision]:
    """The product's decisions for these groups.

    A document that names another organisation, product or group than its path is left out: validly signed bytes must
    not work in another place. One of a later format is left out as well, and said in the log.

    Raises RepositoryAway, RepositoryRefused.
    """
    found = []
    for group in groups:
        path = decision_path(product, group)
        document = view.document(path)
        if document is None:
            continue
        try:
            decision = decode_decision(document)
        except MalformedDocument as error:
            _LOG.warning("%s is left out: %s", path, error)
            continue
        if (decision.org, decision.product, decision.group) == (org, product, group):
            found.append(decision)
        else:
            _LOG.warning("%s is left out: it is for %s/%s/%s", path, decision.org, decision.product, decision.group)
    return found


def brakes_for(view: View, org: str, product: str, groups: Sequence[str]) -> list[Brake]:
    """The product's brakes for these groups, under the same rules.

    Raises RepositoryRefused also for a brake that cannot be read: who cannot understand a stop must not go on.
    """
    found = []
    for group in dict.fromkeys(groups):
        path = brake_path(product, group)
        document = view.document(path)
        if document is None:
            continue
        try:
            brake = decode_brake(document)
        except MalformedDocument as error:
            raise RepositoryRefused(f"{path} cannot be read: {error}") from error
        if (brake.org, brake.product, brake.group) == (org, product, group):
            found.append(brake)
        else:
            _LOG.warning("%s is left out: it is for %s/%s/%s", path, brake.org, brake.product, brake.group)
    return found


def exclusions(view: View, org: str, product: str) -> tuple[Entry, ...]:
    """What the product's signed list keeps away from whom; empty when there is no list.

    Raises RepositoryRefused also for a list that cannot be read, as for a brake.
    """
    path = exclusions_path(product)
    document = view.document(path)
    if document is None:
        return ()
    try:
        return decode_exclusions(document, org=org, product=product)
    except MalformedDocument as error:
        raise RepositoryRefused(f"{path} cannot be read: {error}") from error


def revoked(view: View, product: str) -> Mapping[str, str]:
    """The product's revoked artifacts, SHA-256 to reason; empty when there is no list.

    Raises RepositoryRefused also for a list that cannot be read, as for a brake.
    """
    path = f"revocations/{product}/all.json"
    document = view.document(path)
    if document is None:
        return {}
    try:
        fields = json.loads(document)
        if (fields["_type"], fields["format"], fields["product"]) != ("wavegate-revocations", 1, product):
            raise ValueError("its type, format or product is another")
        return {str(one["sha256"]): str(one["reason"]) for one in fields["revoked"]}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise RepositoryRefused(f"{path} cannot be read: {error!r}") from error
