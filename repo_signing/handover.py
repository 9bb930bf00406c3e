"""Who signs a product's decisions changes hands: what is decided moves with the delegation, in the same commit.

Source: docs/adr/0080-approvers-sign-a-role-of-their-own.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from repo_signing import roles
from repo_signing.draft import Draft
from repo_signing.errors import DraftMoved
from repo_signing.offline import OfflineDraft
from repo_signing.records import Entry
from repo_signing.view import View


def decisions_of(view: View, product: str) -> dict[str, Entry]:
    """What stands of a product's decisions, by path, whoever signs them."""
    folder = f"{roles.DECISIONS}/{product}/"
    targets = view.role(view.holder(f"{folder}any")).body["targets"]
    return {path: entry for path, entry in targets.items() if path.startswith(folder)}


def check_unmoved(view: View, draft: OfflineDraft) -> None:
    """Raise DraftMoved when the server decided something more while approvers signed what they take over."""
    approvers = draft.change.get("approvers")
    if approvers is None or approvers["product"] in view.approved:
        return
    part = next(one for one in draft.parts if roles.is_waves(one.role))
    if decisions_of(view, approvers["product"]) != part.body["targets"]:
        raise DraftMoved(
            f"{approvers['product']} has got other decisions since the draft {draft.id} was made; rebase it"
        )


def move_decisions(trial: Draft, change: Mapping[str, Any]) -> None:
    """Take out of the server's role what approvers sign from now on, or put back what they sign no longer."""
    approvers, managed = change.get("approvers"), change.get("manage")
    if managed is not None:
        trial.open_claim(f"{roles.DECISIONS}/{managed}")
        for path, entry in decisions_of(trial.view, managed).items():
            trial.put(path, entry)
    if approvers is not None and approvers["product"] not in trial.view.approved:
        trial.open_claim(f"{roles.DECISIONS}/{approvers['product']}")
        for path in decisions_of(trial.view, approvers["product"]):
            trial.put(path, None)
