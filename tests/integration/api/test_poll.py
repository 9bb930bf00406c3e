"""A device's poll is static files: nothing of it asks the database."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event
from sqlalchemy.engine import Engine

from tests.integration.api.conftest import Home


@contextmanager
def statements() -> Iterator[list[str]]:
    """Every statement that any engine of this process is given inside the block."""
    seen: list[str] = []

    def note(_conn: object, _cursor: object, statement: str, *_more: object) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_a_poll_asks_the_database_nothing(home: Home) -> None:
    home.publish()
    with statements() as seen:
        assert home.call("GET", "/groups").status_code == 200
    assert seen, "the listener sees what an ordinary request asks"

    def fetch(path: str) -> tuple[int, int]:
        answer = home.client.get(f"/tuf/acme/{path}")
        length = len(answer.data)
        answer.close()
        return answer.status_code, length

    with statements() as seen:
        status, length = fetch("metadata/timestamp.json")
        assert (status, length > 0) == (200, True)
        version = home.client.get("/tuf/acme/metadata/timestamp.json").get_json()["signed"]["meta"]["snapshot.json"]
        assert fetch("metadata/2.root.json") == (404, 0)
        assert fetch(f"metadata/{version['version']}.snapshot.json")[0] == 200
        assert fetch("targets/decisions/fw/nobody.json") == (404, 0)
        sha256 = hashlib.sha256(b"firmware").hexdigest()
        assert fetch(f"targets/fw/1.0.0/any/{sha256}.fw.bin") == (200, 8)
    assert seen == []
