"""What every table is made with: the one collection of tables, its rule for names, and the column of the tenant."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, ForeignKey, MetaData

from store.columns import Key

# Fixed names let a migration alter a constraint on both databases (SQLite's batch mode finds it by name only).
NAMING: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

metadata = MetaData(naming_convention=NAMING)


def org_column(*, primary_key: bool = False) -> Column[str]:
    """The organisation that a row belongs to, by its slug."""
    return Column("org", Key, ForeignKey("orgs.slug"), primary_key=primary_key, nullable=False)
