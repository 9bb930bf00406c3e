"""Lists of accounts: which filters there are, and the order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement

from evidence.model import ActorKind
from evidence.people import Role
from store.account_models import users
from store.order import Order


@dataclass(frozen=True, slots=True, kw_only=True)
class UserFilter:
    """What an account must be to be listed; None asks for nothing."""

    role: Role | None = None
    kind: ActorKind | None = None
    disabled: bool | None = None

    def conditions(self, org: str) -> list[ColumnElement[bool]]:
        """The filter on the table ``users``."""
        wanted = [users.c.org == org]
        if self.role is not None:
            wanted.append(users.c.role == self.role.value)
        if self.kind is not None:
            wanted.append(users.c.kind == self.kind.value)
        if self.disabled is not None:
            wanted.append(users.c.disabled.is_(self.disabled))
        return wanted


EVERYBODY: Final = UserFilter()
OLDEST_FIRST: Final = Order.of("created_at")
