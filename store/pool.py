"""How many connections a process holds to PostgreSQL, and how long anything may take on one."""

from __future__ import annotations

import select
import time
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

WRITER_PATIENCE_SECONDS: Final = 30  # a writer waits this long for another; transactions last milliseconds

_HEARD: Final = "wavegate_heard"
_TRUSTED_SECONDS: Final = 5.0

# A server that vanished without a word (a pulled cable, a firewall that forgot) is noticed after a minute or so.
_KEEPALIVES: Final = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one process; ``size`` and ``wait_seconds`` are SQLite's, too.

    Args:
        size: Connections kept open.
        overflow: Opened beside them when all request threads need one at once.
        wait_seconds: For a connection to become free.
        connect_seconds: For the server to take a new connection.
        statement_seconds: One statement; a migration may take longer.
        idle_seconds: A transaction in which nothing happens. The server ends it, and with it what it had locked.
        pooler: Connections come from a pooler that gives them to another client after each transaction.
    """

    size: int = 10
    overflow: int = 30
    wait_seconds: float = 10
    connect_seconds: int = 10
    statement_seconds: float = 60
    idle_seconds: float = 60
    pooler: bool = False

    def connect_args(self) -> dict[str, Any]:
        """What the driver is told for each connection."""
        # Whatever the server does not answer within this time is given up by the operating system.
        longest = max(self.statement_seconds, WRITER_PATIENCE_SECONDS) + self.connect_seconds
        return {
            "connect_timeout": self.connect_seconds,
            "tcp_user_timeout": int(longest * 1000),
            **_KEEPALIVES,
            # A statement that was prepared on one connection of the pooler's is unknown on the next.
            **({"prepare_threshold": None} if self.pooler else {}),
        }

    def on_server(self) -> dict[str, str]:
        """What the server is told to hold us to."""
        return {
            "lock_timeout": f"{WRITER_PATIENCE_SECONDS * 1000}",
            "statement_timeout": f"{self.statement_seconds * 1000:.0f}",
            "idle_in_transaction_session_timeout": f"{self.idle_seconds * 1000:.0f}",
        }


def prepare_postgresql(engine: Engine, limits: Limits) -> None:
    """Have the server keep to the limits: for as long as a connection lasts, or behind a pooler in each transaction."""
    told = ", ".join(
        f"set_config('{name}', '{milliseconds}', {limits.pooler})" for name, milliseconds in limits.on_server().items()
    )

    def connected(connection: Any, _entry: ConnectionPoolEntry) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {told}")
        connection.commit()

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(f"SELECT {told}")

    if limits.pooler:
        event.listen(engine, "begin", begun)
    else:
        event.listen(engine, "connect", connected)
    _ping_when_in_doubt(engine)


def _ping_when_in_doubt(engine: Engine) -> None:
    """As ``pool_pre_ping``, but a server that was heard a moment ago and has not hung up since is not asked again.

    A server that ends, however it does, closes its connections, and the kernel tells of that without a question.
    """

    def heard(_connection: Any, entry: ConnectionPoolEntry) -> None:
        entry.info[_HEARD] = time.monotonic()

    def checked_out(connection: Any, entry: ConnectionPoolEntry, _pooled: object) -> None:
        try:
            if time.monotonic() - entry.info[_HEARD] >= _TRUSTED_SECONDS or _has_word(connection.fileno()):
                engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error

    event.listen(engine, "connect", heard)
    event.listen(engine, "checkin", heard)
    event.listen(engine, "checkout", checked_out)


def _has_word(line: int) -> bool:
    """Whether something waits to be read, such as the end."""
    poll = select.poll()
    poll.register(line, select.POLLIN)
    return bool(poll.poll(0))
