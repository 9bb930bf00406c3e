"""Every list of the API: pages that hold while others write, filters and orders that are known, cursors of one list."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete

from evidence.ids import new_id
from evidence.model import Actor, ActorKind, AuditEvent
from evidence.webhooks.model import Delivery
from fleet.command import Command, CommandState, Kind
from fleet.model import Device, DeviceStatus
from store.command_models import device_commands
from store.commands import command_row
from store.fleet_rows import device_row, write_labels
from store.models import devices, group_devices, rollout_devices
from store.permit_models import permits
from tests.integration.api.conftest import Home, made_home

NOW = datetime.now(UTC)
SOMEBODY = Actor(ActorKind.USER, "usr_1", "Ada", None)


@dataclass
class Lists:
    """A home in which things are made and taken away behind the API's back, or by it."""

    home: Home
    admin: str
    rollout: str
    group: str
    webhook: str
    numbers: Iterator[int]
    press: str  # a device of that id is made by the first who looks at its history or asks for its logs

    def call(self, method: str, path: str, body: object = None) -> Any:
        answer = self.home.call(method, path, body, token=self.admin)
        assert answer.status_code < 300, (method, path, answer.text)
        return answer.get_json()

    def get(self, path: str, query: str) -> Any:
        return self.home.call("GET", f"{path}?{query}", token=self.admin)

    def device(self, named: str = "") -> str:
        number = next(self.numbers)
        made = Device(
            id=named or new_id("dev"),
            org="acme",
            name=f"press {number % 7}-{number}",
            status=DeviceStatus.ACTIVE,
            platform="any",
            created_at=NOW,
        )
        with self.home.wiring.db.write() as connection:
            connection.execute(devices.insert(), device_row(made, {"site": "oslo"}))
            write_labels(connection, "acme", made.id, {"site": "oslo"})
        return made.id

    def drop(self, table: Any, column: str) -> Callable[[str], None]:
        def drop(name: str) -> None:
            with self.home.wiring.db.write() as connection:
                connection.execute(delete(table).where(table.c[column] == name))

        return drop


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lists]:
    with made_home(tmp_path_factory.mktemp("lists")) as home:
        admin = home.admin()
        home.publish()
        group = home.call("POST", "/groups", {"name": "all"}).get_json()["id"]
        plan = {
            "product": "fw",
            "version": "1.0.0",
            "waves": [{"group": "all"}],
            "budget": {"label": "site", "max_updating": 9},
            "draft": True,
        }
        rollout = home.call("POST", "/rollouts", plan).get_json()["id"]
        hook = home.call("POST", "/webhooks", {"url": "https://example.com/hook"}, token=admin).get_json()["id"]
        yield Lists(home, admin, rollout, group, hook, itertools.count(), new_id("dev"))


Make = Callable[[Lists], str]
Drop = Callable[[Lists, str], object]


def posted(path: str, **body: object) -> Make:
    def make(of: Lists) -> str:
        number = next(of.numbers)
        told = {name: value.format(number) if isinstance(value, str) else value for name, value in body.items()}
        made: str = of.call("POST", path, told)["id"]
        return made

    return make


def deleted(path: str) -> Drop:
    return lambda of, name: of.home.call("DELETE", f"{path}/{name}", token=of.admin, headers={"If-Match": "*"})


def a_session(of: Lists) -> str:
    token = of.home.admin()
    found: str = of.home.call("GET", "/auth/me", token=token).get_json()["credential"]["id"]
    return found


def an_artifact(of: Lists) -> str:
    number = next(of.numbers)
    made = of.home.publish(f"{number}".encode(), version=f"9.{number}", product="fw" if number % 2 else "app")
    found: str = made.get_json()["id"]
    return found


def a_member(of: Lists) -> str:
    device = of.device()
    with of.home.wiring.db.write() as connection:
        connection.execute(group_devices.insert(), {"group_id": of.group, "device": device, "org": "acme"})
    return device


def a_step(of: Lists) -> str:
    device = new_id("dev")
    told = {"progress": "downloading", "at": NOW, "code": "", "detail": "", "last_report": ""}
    numbers = {"wave": 1, "attempt": 1, "failures": 0, "finishes": 0}
    with of.home.wiring.db.write() as connection:
        row = {"rollout": of.rollout, "device": device, "org": "acme", **told, **numbers}
        connection.execute(rollout_devices.insert(), row)
    return device


def a_press(of: Lists) -> str:
    if of.press not in of.home.wiring.fleet.names("acme", [of.press]):
        of.device(of.press)
    return of.press


def an_entry(of: Lists) -> str:
    a_press(of)
    event = AuditEvent("device.seen", of.press, SOMEBODY, datetime.now(UTC), {})
    of.home.wiring.audit.append("acme", [event])
    return of.home.wiring.audit.events("acme", newest_first=True, limit=1)[0].id


def a_permit(of: Lists) -> str:
    device = of.device()
    times = {"granted_at": NOW, "expires_at": NOW + timedelta(days=1)}
    row = {"rollout": of.rollout, "device": device, "org": "acme", "label": "site", "value": f"oslo {device[-1]}"}
    with of.home.wiring.db.write() as connection:
        connection.execute(permits.insert(), {**row, "attempt": 1, **times})
    return device


def a_log_request(of: Lists) -> str:
    request = Command(
        id=new_id("log"),
        org="acme",
        device=a_press(of),
        kind=Kind.LOGS,
        by=SOMEBODY,
        made_at=NOW,
        not_before=NOW,
        expires_at=NOW,
        state=CommandState.EXPIRED,
    )
    with of.home.wiring.db.write() as connection:
        connection.execute(device_commands.insert(), command_row(request))
    return request.id


def a_reboot(of: Lists) -> str:
    device = of.device()
    of.call("POST", f"/reboots/{device}/schedule", {})
    return device


def an_event(subject: str) -> Make:
    def make(of: Lists) -> str:
        tag = f"made.{next(of.numbers)}"
        audit = of.home.wiring.audit
        audit.append("acme", [AuditEvent(tag, subject or of.rollout, SOMEBODY, NOW, {})])
        return audit.events("acme", newest_first=True, limit=1)[0].id

    return make


def a_delivery(of: Lists) -> str:
    event = AuditEvent("made", "x", SOMEBODY, NOW, {})
    wanted = Delivery(
        id=new_id("dlv"),
        org="acme",
        webhook=of.webhook,
        message="",
        seq=0,
        tag="made",
        created_at=NOW,
        next_at=NOW + timedelta(days=1),
    )
    return of.home.wiring.deliveries.add("acme", event, wanted).id


def of_table(table: Any, column: str) -> Drop:
    return lambda of, name: of.drop(table, column)(name)


# For each list: how an item is made and taken away (None: never), and what names it in the list.
MAKERS: dict[str, tuple[Make, Drop | None, str]] = {
    "/users": (posted("/users", email="p{}@example.com", name="P", role="viewer"), None, "id"),
    "/api-keys": (posted("/api-keys", name="k{}"), deleted("/api-keys"), "id"),
    "/profile/sessions": (a_session, deleted("/profile/sessions"), "id"),
    "/artifacts": (an_artifact, None, "id"),
    "/groups": (posted("/groups", name="g{}"), deleted("/groups"), "id"),
    "/groups/{id}/devices": (a_member, deleted("/devices"), "id"),
    "/devices": (Lists.device, deleted("/devices"), "id"),
    "/devices/{id}/history": (an_entry, None, "id"),
    "/devices/{id}/logs": (a_log_request, of_table(device_commands, "id"), "id"),
    "/reboots": (a_reboot, deleted("/devices"), "device_id"),
    "/enroll-tokens": (posted("/enroll-tokens", name="t{}"), deleted("/enroll-tokens"), "id"),
    "/rollouts": (
        posted("/rollouts", product="fw", version="1.0.0", waves=[{"group": "all"}], draft=True),
        None,
        "id",
    ),
    "/rollouts/{id}/events": (an_event(""), None, "id"),
    "/rollouts/{id}/devices": (a_step, of_table(rollout_devices, "device"), "device_id"),
    "/rollouts/{id}/permits": (a_permit, of_table(permits, "device"), "device_id"),
    "/exclusions": (posted("/exclusions", product="fw", version="7.{}", reason="r"), deleted("/exclusions"), "id"),
    "/freeze-windows": (
        posted("/freeze-windows", reason="r", starts="2027-01-01T00:00:00Z", ends="2027-01-02T00:00:00Z"),
        deleted("/freeze-windows"),
        "id",
    ),
    "/webhooks": (posted("/webhooks", url="https://example.com/{}"), deleted("/webhooks"), "id"),
    "/webhooks/{id}/deliveries": (a_delivery, None, "id"),
    "/invitations": (posted("/invitations", email="i{}@example.com", role="viewer"), None, "id"),
    "/trusted-publishers": (
        posted(
            "/trusted-publishers",
            name="t{}",
            provider="gitlab",
            products=["fw"],
            claims={"project_id": "1", "namespace_id": "2"},
        ),
        deleted("/trusted-publishers"),
        "id",
    ),
    "/audit/events": (an_event("somebody"), None, "id"),
}


def described(home: Home) -> dict[str, dict[str, Any]]:
    """Every operation with a cursor: path to its query parameters by name."""
    paths = home.client.get("/openapi.json").get_json()["paths"]
    found = {}
    for path, item in paths.items():
        parameters = {
            one["name"]: one["schema"] for one in item.get("get", {}).get("parameters", []) if one.get("in") == "query"
        }
        if "cursor" in parameters:
            found[path.removeprefix("/api/v1")] = parameters
    return found


def filled(lists: Lists, path: str) -> str:
    owner = {"/devices": lists.press, "/rollouts": lists.rollout, "/groups": lists.group, "/webhooks": lists.webhook}
    return path.replace("{id}", owner.get(path.partition("/{id}")[0], ""))


def orders(lists: Lists, path: str) -> list[str]:
    told: list[str] = described(lists.home)[path].get("sort", {}).get("enum", [""])
    return told


def walk(
    lists: Lists, path: str, query: str, between: Callable[[], None] = lambda: None, *, limit: int = 2
) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []
    following = f"{filled(lists, path)}?limit={limit}{query}"
    while True:
        answer = lists.home.call("GET", following, token=lists.admin)
        assert answer.status_code == 200, (following, answer.text)
        page = answer.get_json()
        assert len(page["items"]) <= limit
        seen += page["items"]
        assert ("Link" in answer.headers) == (page["next_cursor"] is not None)
        if page["next_cursor"] is None:
            return seen
        target, _, relation = answer.headers["Link"].partition("; ")
        assert relation == 'rel="next"'
        following = target.strip("<>").removeprefix("/api/v1")
        between()


def test_every_list_is_known_here(lists: Lists) -> None:
    assert sorted(described(lists.home)) == sorted(MAKERS)


@pytest.mark.parametrize("path", MAKERS)
def test_pages_hold_while_items_come_and_go(lists: Lists, path: str) -> None:
    make, drop, name = MAKERS[path]
    for sort in orders(lists, path):
        stay = [make(lists) for _ in range(3)]
        going = [make(lists) for _ in range(2)] if drop else []
        stay += [make(lists) for _ in range(2)]
        coming = iter(range(3))  # no more: an order that shows new items last would never end

        def write(going: list[str] = going, coming: Iterator[int] = coming) -> None:
            if next(coming, None) is not None:
                make(lists)
            if going and drop:
                drop(lists, going.pop())

        query = "&tag=made" if path == "/audit/events" else ""
        pages = walk(lists, path, f"{query}&sort={sort}" if sort else query, write)
        seen = [item[name] for item in pages]
        assert (going, next(coming, 3) > 1) == ([], True)
        assert len(seen) == len(set(seen)), (sort, "listed twice")
        assert [one for one in stay if one not in seen] == [], (sort, "left out")


@pytest.mark.parametrize("path", MAKERS)
def test_an_order_is_its_opposite_backwards_and_the_total_counts_all(lists: Lists, path: str) -> None:
    make, _, name = MAKERS[path]
    make(lists)
    made = filled(lists, path)
    told = lists.get(made, "total=true&limit=1").get_json()
    everything = [item[name] for item in walk(lists, path, "", limit=20)]
    assert told["total"] == len(everything) > 0
    assert "total" not in lists.get(made, "limit=1").get_json()
    for sort in orders(lists, path):
        if sort and not sort.startswith("-"):
            both = [walk(lists, path, f"&sort={one}", limit=20) for one in (sort, f"-{sort}")]
            up, down = ([item[name] for item in one] for one in both)
            assert up == down[::-1], sort
            assert sorted(up) == sorted(everything)


@pytest.mark.parametrize("path", MAKERS)
def test_what_a_list_does_not_know_is_refused(lists: Lists, path: str) -> None:
    make, _, _ = MAKERS[path]
    made = filled(lists, path)
    for query in ("colour=red", "sort=colour", "limit=0", "limit=201", "limit=x", "total=perhaps"):
        answer = lists.get(made, query)
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (400, "validation_failed"), query
    for _ in range(2):
        make(lists)
    cursor = lists.get(made, "limit=1").get_json()["next_cursor"]
    other = "/groups" if path != "/groups" else "/devices"
    MAKERS[other][0](lists)
    MAKERS[other][0](lists)
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    bent = base64.urlsafe_b64encode(raw[:-1] + bytes([raw[-1] ^ 1])).decode().rstrip("=")
    foreign = lists.get(other, "limit=1").get_json()["next_cursor"]
    for wrong in (bent, foreign, cursor[:-1], cursor + "A", "", "!!!", "A" * 400):
        answer = lists.get(made, f"limit=1&cursor={wrong}")
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (400, "invalid_cursor"), wrong
    assert lists.get(made, f"limit=200&total=true&cursor={cursor}").status_code == 200


def test_a_cursor_is_of_its_filters_and_its_order(lists: Lists) -> None:
    for _ in range(2):
        lists.device()
    cursor = lists.get("/devices", "limit=1&status=active&sort=name").get_json()["next_cursor"]
    assert lists.get("/devices", f"sort=name&status=active&cursor={cursor}").status_code == 200
    for other in ("status=active", "sort=name", "sort=-name&status=active", "sort=name&status=revoked"):
        assert lists.get("/devices", f"{other}&cursor={cursor}").status_code == 400, other
