"""Devices as CSV, in and out: all of a list or none of it, codes once, and a round trip that changes nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.test import TestResponse

from fleet.roster import MAX_BYTES, SETTABLE, TOLD
from tests.databases import Databases
from tests.integration.api.conftest import Home, copied_home
from tests.simulators.devices import new_key, request_for

pytestmark = pytest.mark.postgresql


@pytest.fixture(scope="module")
def lab(databases: Databases, first_home: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with copied_home(databases, first_home, tmp_path_factory.mktemp("lab") / "home") as home:
        for name in ("canary", "berlin"):
            home.call("POST", "/groups", {"name": name})
        home.call("POST", "/groups", {"name": "by-site", "selector": "labels.site = berlin"})
        home.call("POST", "/devices", {"name": "there", "groups": ["canary"], "labels": {"site": "oslo"}})
        yield home


def send(home: Home, content: str | bytes, query: str = "", **headers: str) -> TestResponse:
    data = content.encode() if isinstance(content, str) else content
    return home.call("POST", f"/devices/import{query}", data=data, headers={"Content-Type": "text/csv", **headers})


def fault(answer: TestResponse) -> tuple[str, str]:
    """Where and what the first fault is."""
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (400, "invalid_device_list"), answer.text
    first = answer.get_json()["error"]["details"][0]
    return first["loc"], first["message"]


def export(home: Home, query: str = "") -> list[dict[str, str]]:
    answer = home.call("GET", f"/devices?format=csv{query}")
    assert (answer.status_code, answer.mimetype) == (200, "text/csv")
    return list(csv.DictReader(io.StringIO(answer.get_data(as_text=True), newline="")))


def total(home: Home) -> int:
    counted: int = home.call("GET", "/devices?total=true&limit=1").get_json()["total"]
    return counted


def tags(home: Home, device: str) -> list[str]:
    found = home.call("GET", f"/audit/events?subject={device}", token=home.admin()).get_json()["items"]
    return sorted(one["tag"] for one in found)


def test_each_line_becomes_a_pending_device_with_a_code_that_lets_it_in(lab: Home) -> None:
    told = send(
        lab, "name,platform,groups,labels\r\nin-1,linux-arm64,canary;berlin,site=berlin;rack=7\r\nin-2,,,\r\n"
    ).get_json()
    assert (told["created"], told["updated"], told["unchanged"]) == (2, 0, 0)
    assert [(one["line"], one["name"], one["outcome"]) for one in told["items"]] == [
        (2, "in-1", "created"),
        (3, "in-2", "created"),
    ]
    assert list(told["codes"]) == ["in-1", "in-2"]
    shown = lab.call("GET", "/devices/in-1").get_json()
    assert (shown["status"], shown["platform"], shown["groups"]) == (
        "pending",
        "linux-arm64",
        ["berlin", "by-site", "canary"],
    )
    assert shown["labels"] == {"site": "berlin", "rack": "7"}
    assert tags(lab, shown["id"]) == ["device.created"]
    body = {"token": told["codes"]["in-2"], "certificate_request": request_for(new_key()).decode()}
    let_in = lab.call("POST", "/enroll", {**body, "name": "x", "platform": "linux-x86_64"}, token="")
    assert (let_in.status_code, let_in.get_json()["name"]) == (201, "in-2")


def test_a_trial_says_the_same_and_does_nothing(lab: Home) -> None:
    before = total(lab)
    told = send(lab, "name\ntried\n", "?dry_run=true").get_json()
    assert (told["dry_run"], told["created"], told["codes"]) == (True, 1, {})
    assert told["items"] == [{"line": 2, "name": "tried", "outcome": "created", "id": None}]
    assert total(lab) == before


def test_what_is_exported_and_imported_again_changes_nothing(lab: Home) -> None:
    odd = 'note=a \\"quoted\\", b; and \\\\ =c'.replace('\\"', '"').replace("\\\\", "\\").partition("=")[2]
    lab.call("POST", "/devices", {"name": "odd", "groups": ["berlin"], "labels": {"note": odd, "empty": ""}})
    answer = lab.call("GET", "/devices?format=csv")
    events = lab.wiring.audit.count("acme")
    told = send(lab, answer.get_data(), "?existing=update").get_json()
    assert (told["created"], told["updated"], told["unchanged"]) == (0, 0, total(lab))
    assert lab.wiring.audit.count("acme") == events
    assert lab.call("GET", "/devices/odd").get_json()["labels"] == {"note": odd, "empty": ""}


def test_devices_that_are_there_are_brought_to_their_line_when_that_is_asked(lab: Home) -> None:
    send(lab, "name,groups,labels\nup-1,canary,site=oslo\nup-2,canary,site=oslo\n")
    line = "name,groups,labels\nup-1,berlin,site=berlin\nup-2,canary,site=oslo\n"
    assert fault(send(lab, line)) == (
        "line 2, name",
        "the device up-1 is there already; ask for an update of those that are",
    )
    told = send(lab, line, "?existing=update").get_json()
    assert [one["outcome"] for one in told["items"]] == ["updated", "unchanged"]
    assert told["codes"] == {}
    shown = lab.call("GET", "/devices/up-1").get_json()
    assert (shown["groups"], shown["labels"]) == (["berlin", "by-site"], {"site": "berlin"})
    assert tags(lab, shown["id"]) == ["device.created", "device.imported"]
    send(lab, "name,labels\nup-1,\n", "?existing=update")
    shown = lab.call("GET", "/devices/up-1").get_json()
    assert (shown["groups"], shown["labels"]) == (["berlin"], {})


def test_who_may_enrol_and_not_change_groups_updates_nobody(lab: Home) -> None:
    body = {"name": "only enrols", "permissions": ["devices:enroll"]}
    key = lab.call("POST", "/api-keys", body, token=lab.admin()).get_json()["key"]
    refused = lab.call("POST", "/devices/import?existing=update", data=b"name\nthere\n", token=key)
    assert (refused.status_code, refused.get_json()["error"]["permission"]) == (403, "groups:write")
    assert lab.call("POST", "/devices/import", data=b"name\nby-key\n", token=key).status_code == 200


def test_a_list_is_imported_whole_or_not_at_all_and_every_fault_is_told(lab: Home) -> None:
    before, events = total(lab), lab.wiring.audit.count("acme")
    answer = send(lab, "name,platform,groups,labels\ngood,,,\nbad name,any,,x\ngood-2,,nobody;by-site,\nthere,,,\n")
    details = answer.get_json()["error"]["details"]
    assert [one["loc"] for one in details] == ["line 3, name", "line 3, platform", "line 3, labels"]
    answer = send(lab, "name,groups\ngood,\ngood-2,nobody;by-site\nthere,\n")
    assert [one["loc"] for one in answer.get_json()["error"]["details"]] == [
        "line 3, groups",
        "line 3, groups",
        "line 4, name",
    ]
    assert answer.get_json()["error"]["message"] == (
        "line 3, groups: no group nobody (and 2 more); nothing was imported"
    )
    assert (total(lab), lab.wiring.audit.count("acme")) == (before, events)


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        (b"", "the file", "it is empty"),
        (b"\n\n", "the file", "it is empty"),
        (b"name\n", "the file", "no device"),
        (b"\xff\xfen\0a\0m\0e\0", "the file", "UTF-16"),
        ("name\nü\n".encode("latin-1"), "line 2", "not UTF-8"),
        (b"name\na\0b\n", "line 2", "NUL"),
        (b"name;labels\na;b\n", "line 1", "commas"),
        (b"name,colour\na,b\n", "line 1, colour", "no such column"),
        (b"name,name\na,b\n", "line 1, name", "twice"),
        (b"labels\na=b\n", "line 1, name", "missing"),
        (b"name,labels\na\n", "line 2", "1 cells, the head names 2"),
        (b"name\na,b\n", "line 2", "2 cells, the head names 1"),
        (b"name\ntwin\n\ntwin\n", "line 4, name", "stands in line 2 already"),
        (b'name\n"open\n', "line 2", "no CSV"),
        (b"name\n=1+1\n", "line 2, name", "not 1 to 100"),
        (b"name,labels\na,x=1;x=2\n", "line 2, labels", "given twice"),
        (b"name,labels\na,x=a\\b\n", "line 2, labels", "backslash"),
        (b"name,labels\na,x=a\\\n", "line 2, labels", "single backslash"),
        (b'name,labels\na,"x=1\n2"\n', "line 2, labels", "printable"),
        (b"name,groups\na,canary;\n", "line 2, groups", "empty"),
        (b"name,state\na," + b"x" * 16_385 + b"\n", "line 2, state", "at most 16384"),
        (b"name,state\na," + b"x" * 200_000 + b"\n", "line 2", "field larger"),
        (b"name\n" + b"".join(b"d%d\n" % number for number in range(10_001)), "line 10002", "more than 10000"),
        (b"name,platform\nthere,linux-x\n", "line 2, name", "there already"),
    ],
)
def test_a_hostile_list_is_refused_by_line_and_column(lab: Home, content: bytes, where: str, what: str) -> None:
    before = total(lab)
    loc, message = fault(send(lab, content))
    assert loc == where
    assert what in message
    assert total(lab) == before


def test_a_list_may_begin_with_a_mark_and_end_its_lines_in_any_way(lab: Home) -> None:
    told = send(lab, b'\xef\xbb\xbf"name","labels"\r\nbom-1,"a=1"\rbom-2,"b=x, ""y"""\n\r\n').get_json()
    assert [one["name"] for one in told["items"]] == ["bom-1", "bom-2"]
    assert lab.call("GET", "/devices/bom-2").get_json()["labels"] == {"b": 'x, "y"'}


def test_a_platform_is_not_changed_by_an_import(lab: Home) -> None:
    loc, message = fault(send(lab, "name,platform\nthere,linux-arm64\n", "?existing=update"))
    assert loc == "line 2, platform"
    assert "has the platform '', not 'linux-arm64'" in message


def test_more_bytes_than_are_taken_are_not_read(lab: Home) -> None:
    answer = send(lab, b"x" * (MAX_BYTES + 1))
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (413, "body_too_large")


def test_a_list_sent_twice_with_one_key_is_imported_once_and_tells_no_code_again(lab: Home) -> None:
    first = send(lab, "name\nonce\n", **{"Idempotency-Key": "roster-1"})
    again = send(lab, "name\nonce\n", **{"Idempotency-Key": "roster-1"})
    assert (first.status_code, again.status_code, again.headers["Idempotency-Replayed"]) == (200, 200, "true")
    code = first.get_json()["codes"]["once"]
    assert again.get_json() == {**first.get_json(), "codes": None}
    assert code.encode() not in lab.stored()


def test_the_export_has_every_device_of_its_filters_and_no_formula(lab: Home) -> None:
    send(lab, "name,labels\nx-1,line=export\nx-2,line=export\nx-3,line=other\n")
    device = lab.wiring.fleet.device("acme", "x-1")
    rows = export(lab, "&label=line%3Dexport&sort=-name")
    assert list(rows[0]) == [*SETTABLE, *TOLD]
    assert [one["name"] for one in rows] == ["x-2", "x-1"]
    assert (rows[1]["id"], rows[1]["status"], rows[1]["online"], rows[1]["critical_count"]) == (
        device.id,
        "pending",
        "false",
        "",
    )
    answer = lab.call("GET", "/devices", headers={"Accept": "text/csv"})
    assert answer.headers["Content-Disposition"] == 'attachment; filename="devices.csv"'
    assert lab.call("GET", "/devices", headers={"Accept": "*/*"}).mimetype == "application/json"


def test_an_export_of_more_devices_than_are_read_at_once_is_whole_and_goes_back(lab: Home) -> None:
    names = [f"many-{number:04}" for number in range(1_100)]
    made = send(lab, "name,groups,labels\n" + "".join(f"{name},canary,lot=9\n" for name in names))
    assert made.get_json()["created"] == 1_100
    assert lab.call("GET", "/groups/canary").get_json()["devices"] >= 1_100
    content = lab.call("GET", "/devices?format=csv&label=lot%3D9&sort=name").get_data()
    assert [one["name"] for one in csv.DictReader(io.StringIO(content.decode(), newline=""))] == names
    assert send(lab, content, "?existing=update").get_json()["unchanged"] == 1_100
