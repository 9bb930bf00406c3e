"""The remaining nouns: each verb becomes the call it stands for, and its answer is printed whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.simulators.api_server import ApiServerSimulator, Reply, refusal
from tests.unit.cli.conftest import Publish
from tests.unit.cli.samples import ARTIFACT, SBOM

GROUP = {
    "id": "grp_01",
    "name": "canary",
    "description": "",
    "selector": None,
    "revision": 1,
    "devices": 2,
    "created_at": "2026-11-21T10:00:00Z",
}
DEVICE = {
    "id": "dev_01",
    "name": "kiosk\x1b[2J",
    "status": "active",
    "platform": "any",
    "hostname": "k1",
    "os_family": "linux",
    "os_name": "Debian 12",
    "agent_version": "0.1.0",
    "labels": {"site": "zrh"},
    "groups": ["canary"],
    "held_back": [],
    "online": True,
    "last_seen_at": "2026-11-21T10:00:00Z",
    "created_at": "2026-11-20T10:00:00Z",
    "running": [{"product": "app", "version": "1.0.0", "path": "p", "sha256": "a" * 64, "rollout_id": ""}],
    "updates_available": 1,
    "critical_count": None,
    "reboot_pending": "",
    "state": "idle",
}
TOKEN = {
    "id": "tok_01",
    "name": "shop",
    "token": "wge_secret",
    "expires_at": "2026-12-21T10:00:00Z",
    "max_uses": 3,
    "uses": 1,
    "groups": ["canary"],
    "labels": {},
    "created_at": "2026-11-21T10:00:00Z",
}
KEY = {
    "id": "key_01",
    "name": "ci",
    "prefix": "wgk_abcd",
    "key": "wgk_secret",
    "user": "usr_01",
    "permissions": ["artifacts:read"],
    "created_at": "2026-11-21T10:00:00Z",
    "expires_at": "2027-02-19T10:00:00Z",
    "last_used_at": None,
}
USER = {
    "id": "usr_02",
    "email": "bob@example.com",
    "name": "Bob",
    "kind": "user",
    "role": "approver",
    "disabled": False,
    "created_at": "2026-11-21T10:00:00Z",
    "password": "once only",
}
EVENT = {
    "seq": 4,
    "id": "evt_01",
    "tag": "rollout.paused",
    "subject": "rol_01",
    "by": {"kind": "user", "id": "usr_01", "name": "Ann", "credential": "ses_01"},
    "at": "2026-11-21T10:00:00Z",
    "data": {"reason": "too hot"},
}
REPOSITORY = {
    "org": "acme",
    "serial": 7,
    "projected_serial": 7,
    "root_version": 1,
    "root_sha256": "a" * 64,
    "artifacts": 2,
    "metadata_url": "http://127.0.0.1/tuf/acme/metadata",
    "targets_url": "http://127.0.0.1/tuf/acme/targets",
    "roles": [
        {
            "name": "timestamp",
            "version": 7,
            "expires": "2026-11-23T10:00:00Z",
            "expires_in_seconds": 172800,
            "targets": None,
            "outlook": "ok",
        }
    ],
    "warnings": [],
    "drafts": [
        {
            "id": "drf_01",
            "title": "yank app/1.0/any/app.bin",
            "deadline": "2026-12-20T10:00:00Z",
            "signatures": [{"role": "product-app", "by": "targets 3", "have": 1, "need": 2}],
        }
    ],
    "overlap": {"keyids": {"timestamp": ["b" * 64]}, "ends_from": "2026-11-22T11:00:00Z"},
}


def test_the_status_shows_what_waits_and_the_overlap_of_a_rotation(
    publish: Publish, server: ApiServerSimulator
) -> None:
    server.on("GET", "/api/v1/repository", Reply(200, REPOSITORY))
    told = publish("repo", "status", "-o", "table").out
    assert "drf_01  yank app/1.0/any/app.bin  product-app 1/2 (targets 3)  2026-12-20" in told
    assert "old keys of timestamp still sign; `publish repo rotate --finish` from 2026-11-22" in told
    server.on("GET", "/api/v1/repository", Reply(200, REPOSITORY | {"drafts": [], "overlap": None}))
    quiet = publish("repo", "status", "-o", "table").out
    assert "waits" not in quiet
    assert "still sign" not in quiet


def page(*items: dict[str, Any]) -> Reply:
    return Reply(200, {"items": list(items), "next_cursor": None})


@pytest.mark.parametrize(
    ("arguments", "method", "path", "body"),
    [
        (("group", "create", "canary"), "POST", "/groups", {"name": "canary", "description": ""}),
        (
            ("group", "create", "field", "--selector", "labels.site = zrh"),
            "POST",
            "/groups",
            {"name": "field", "description": "", "selector": "labels.site = zrh"},
        ),
        (
            ("device", "label", "kiosk 1", "site=zrh", "--remove", "ring"),
            "PATCH",
            "/devices/kiosk%201/labels",
            {"labels": {"site": "zrh", "ring": None}},
        ),
        (
            ("device", "label", "kiosk 1", "site=zrh", "--replace"),
            "PUT",
            "/devices/kiosk%201/labels",
            {"labels": {"site": "zrh"}},
        ),
        (
            ("enroll-token", "create", "shop", "--group", "canary", "--label", "site=zrh", "--max-uses", "3"),
            "POST",
            "/enroll-tokens",
            {"name": "shop", "groups": ["canary"], "labels": {"site": "zrh"}, "max_uses": 3, "expires_in_hours": 720},
        ),
        (("key", "create", "ci"), "POST", "/api-keys", {"name": "ci", "expires_in_days": 90}),
        (
            ("key", "rotate", "key_01", "--overlap", "0", "--expires-in-days", "30"),
            "POST",
            "/api-keys/key_01/rotate",
            {"overlap_hours": 0, "expires_in_days": 30},
        ),
        (
            ("user", "create", "bob@example.com", "--name", "Bob", "--role", "approver"),
            "POST",
            "/users",
            {"email": "bob@example.com", "name": "Bob", "role": "approver"},
        ),
        (("device", "revoke", "kiosk 1", "--reason", "lost"), "POST", "/devices/kiosk%201/revoke", {"reason": "lost"}),
        (("repo", "refresh"), "POST", "/repository/refresh", {}),
        (("repo", "refresh", "--accept-clock"), "POST", "/repository/refresh", {"accept_clock": True}),
    ],
)
def test_a_write_sends_what_was_said(
    publish: Publish,
    server: ApiServerSimulator,
    arguments: tuple[str, ...],
    method: str,
    path: str,
    body: dict[str, object],
) -> None:
    answers: dict[str, Any] = {
        "/groups": GROUP,
        "/enroll-tokens": TOKEN,
        "/api-keys": KEY,
        "/api-keys/key_01/rotate": KEY,
        "/users": USER,
        "/devices/kiosk%201/revoke": DEVICE,
        "/devices/kiosk%201/labels": DEVICE,
        "/repository/refresh": {"serial": 8, "roles": ["timestamp"]},
    }
    server.on(method, f"/api/v1{path}", Reply(201, answers[path]))
    done = publish(*arguments)
    (seen,) = server.requests
    assert (done.code, seen.json, done.json) == (0, body, answers[path])


@pytest.mark.parametrize(
    ("arguments", "method", "path"),
    [
        (("group", "delete", "canary"), "DELETE", "/groups/canary"),
        (("group", "remove", "canary", "dev_01"), "DELETE", "/groups/canary/devices/dev_01"),
        (("group", "add", "canary", "../x"), "PUT", "/groups/canary/devices/..%2Fx"),
        (("device", "delete", "dev_01"), "DELETE", "/devices/dev_01"),
        (("enroll-token", "delete", "tok_01"), "DELETE", "/enroll-tokens/tok_01"),
        (("key", "revoke", "key_01"), "DELETE", "/api-keys/key_01"),
    ],
)
def test_a_write_without_an_answer_still_says_that_it_is_done(
    publish: Publish, server: ApiServerSimulator, arguments: tuple[str, ...], method: str, path: str
) -> None:
    server.on(method, f"/api/v1{path}", Reply(204))
    done = publish(*arguments)
    assert done.code == 0
    assert isinstance(done.json, dict)
    assert [(seen.method, seen.path) for seen in server.requests] == [(method, f"/api/v1{path}")]


@pytest.mark.parametrize(
    ("arguments", "path", "item", "line"),
    [
        (("group",), "/groups", GROUP, "canary  2        -         -            2026-11-21 10:00:00Z  grp_01"),
        (
            ("device",),
            "/devices",
            DEVICE,
            "kiosk\\x1b[2J  active  yes     any       canary  app 1.0.0  1        2026-11-21 10:00:00Z  dev_01",
        ),
        (("enroll-token",), "/enroll-tokens", TOKEN, "shop  1 of 3  canary  2026-12-21 10:00:00Z  tok_01"),
        (("key",), "/api-keys", KEY, "ci    wgk_abcd  usr_01  2027-02-19 10:00:00Z  -          key_01"),
        (
            ("user",),
            "/users",
            USER,
            "bob@example.com  Bob   approver  no        usr_02",
        ),
        (
            ("audit",),
            "/audit/events",
            EVENT,
            '4    2026-11-21 10:00:00Z  rollout.paused  rol_01   Ann  {"reason": "too hot"}',
        ),
        (
            ("artifact",),
            "/artifacts",
            ARTIFACT,
            "art_01  app/1.0.0/any/app.bin  stable   5 B     1      2026-11-21 10:00:00Z  active",
        ),
    ],
)
def test_a_list_is_a_table_for_people_and_whole_for_programs(
    publish: Publish,
    server: ApiServerSimulator,
    arguments: tuple[str, ...],
    path: str,
    item: dict[str, Any],
    line: str,
) -> None:
    server.on("GET", f"/api/v1{path}", page(item))
    assert publish(*arguments, "list").json == {"items": [item]}
    assert publish(*arguments, "list", "-o", "table").out.splitlines()[1] == line


def test_list_filters_become_parameters(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/audit/events", page())
    publish("audit", "list", "--subject", "rol_01", "--tag", "rollout.paused", "--after", "9", "--limit", "0")
    assert server.requests[0].query == {
        "subject": "rol_01",
        "tag": "rollout.paused",
        "after_seq": "9",
        "limit": "200",
    }


def test_a_group_is_shown_with_its_devices(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/groups/canary", Reply(200, GROUP))
    server.on("GET", "/api/v1/groups/canary/devices", page(DEVICE))
    assert publish("group", "show", "canary").json["items"] == [DEVICE]
    assert "kiosk\\x1b[2J  active  any       yes     dev_01" in publish("group", "show", "canary", "-o", "table").out


def test_a_device_is_shown_with_what_it_runs(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/devices/dev_01", Reply(200, DEVICE))
    lines = publish("device", "show", "dev_01", "-o", "table").out.splitlines()
    assert lines[-1] == "runs       app 1.0.0  sha256 " + "a" * 64


def test_an_artifact_is_found_by_its_target_path(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/artifacts", page({**ARTIFACT, "target_path": "app/1.0.0/any/other"}, ARTIFACT))
    assert publish("artifact", "show", "app/1.0.0/any/app.bin").json == ARTIFACT
    assert server.requests[0].query == {"product": "app", "version": "1.0.0", "platform": "any", "limit": "200"}


@pytest.mark.parametrize("path", ["app/1.0.0/any/none", "app/1.0.0", "/"])
def test_a_target_path_nobody_published_is_not_found(publish: Publish, server: ApiServerSimulator, path: str) -> None:
    server.on("GET", "/api/v1/artifacts", page())
    done = publish("artifact", "show", path)
    assert done.code == 5
    assert done.err.splitlines()[1] == "hint: `publish artifact list` shows what is published"


def test_labels_are_changed_over_what_was_read(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/artifacts/art_01", Reply(200, ARTIFACT, {"ETag": '"e7"'}))
    server.on("PATCH", "/api/v1/artifacts/art_01", Reply(200, ARTIFACT))
    publish("artifact", "patch", "art_01", "--label", "ring=0", "--remove-label", "team", "--note", "ok")
    assert server.requests[-1].json == {"notes": "ok", "labels": {"ring": "0"}}
    assert server.requests[-1].headers["if-match"] == '"e7"'


def test_a_patch_of_nothing_is_a_usage_error(publish: Publish, server: ApiServerSimulator) -> None:
    assert publish("artifact", "patch", "art_01").code == 2
    assert server.requests == []


def test_a_yank_carries_its_reason(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/artifacts/art_01", Reply(200, ARTIFACT))
    server.on("POST", "/api/v1/artifacts/art_01/yank", Reply(200, ARTIFACT))
    assert publish("artifact", "yank", "art_01", "--reason", "burns").code == 0
    assert server.requests[-1].json == {"reason": "burns"}


def test_an_sbom_is_attached_as_it_is(publish: Publish, server: ApiServerSimulator, tmp_path: Path) -> None:
    bom = tmp_path / "bom.xml"
    bom.write_bytes(b"<bom/>\n")
    server.on("GET", "/api/v1/artifacts/art_01", Reply(200, ARTIFACT))
    server.on("PUT", "/api/v1/artifacts/art_01/sboms", Reply(201, SBOM))
    assert publish("sbom", "attach", "art_01", str(bom)).json == SBOM
    assert server.requests[-1].body == b"<bom/>\n"


def test_an_sbom_is_written_byte_for_byte_and_never_over_a_file(
    publish: Publish, server: ApiServerSimulator, tmp_path: Path
) -> None:
    server.on("GET", "/api/v1/sboms/sbo_01", Reply(200, b"\xef\xbb\xbf<bom/>\r\n"))
    place = tmp_path / "bom.xml"
    assert publish("sbom", "get", "sbo_01", "--to", str(place)).json == {"file": str(place), "length": 11}
    assert place.read_bytes() == b"\xef\xbb\xbf<bom/>\r\n"
    assert publish("sbom", "get", "sbo_01", "--to", str(place)).code == 1


def test_sboms_are_listed(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/artifacts/art_01", Reply(200, ARTIFACT))
    server.on("GET", "/api/v1/artifacts/art_01/sboms", Reply(200, {"items": [SBOM]}))
    assert publish("sbom", "list", "art_01", "-o", "table").out.splitlines()[1] == (
        "sbo_01  app/1.0.0/any/app.bin.sbom.0.cyclonedx-json  cyclonedx-json 1.6  12          300 B"
    )


def test_a_person_is_disabled_by_e_mail(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/users", page(USER))
    server.on("PATCH", "/api/v1/users/usr_02", Reply(200, {**USER, "disabled": True}))
    assert publish("user", "disable", "Bob@Example.com").json["disabled"] is True
    assert server.requests[-1].json == {"disabled": True}
    assert publish("user", "disable", "eve@example.com").code == 5


def test_a_password_for_a_new_account_is_read_from_a_file(
    publish: Publish, server: ApiServerSimulator, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("my own words\n")
    server.on("POST", "/api/v1/users", Reply(201, {**USER, "password": None}))
    arguments = ("user", "create", "b@example.com", "--name", "B", "--role", "viewer", "--password-file")
    done = publish(*arguments, str(tmp_path / "password"), "-o", "table")
    assert server.requests[0].json["password"] == "my own words"
    assert "password" not in done.out


def test_secrets_are_shown_once_with_a_word_about_it(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("POST", "/api/v1/enroll-tokens", Reply(201, TOKEN))
    assert publish("enroll-token", "create", "shop", "-o", "table").out.splitlines()[-2:] == [
        "token     wge_secret",
        "The token is shown this once.",
    ]


def test_repository_status_shows_what_expires_when(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/repository", Reply(200, REPOSITORY))
    lines = publish("repo", "status", "-o", "table").out.splitlines()
    assert lines[1] == "serial          7"
    assert "timestamp  7        -        2026-11-23 10:00:00Z  2 d   ok" in lines


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 8)])
def test_repository_check_ends_as_it_found_things(
    publish: Publish, server: ApiServerSimulator, ok: bool, code: int
) -> None:
    finding = {"kind": "orphan", "what": "9.snapshot.json", "repaired": ok}
    server.on("POST", "/api/v1/repository/check", Reply(200, {"ok": ok, "findings": [finding]}))
    done = publish("repo", "check", "--repair")
    assert (done.code, done.json["findings"]) == (code, [finding])
    assert server.requests[0].json == {"repair": True}


def test_a_missing_permission_is_named(publish: Publish, server: ApiServerSimulator) -> None:
    server.on(
        "GET", "/api/v1/devices", refusal(403, "permission_denied", "missing permission: devices:read", permission="x")
    )
    done = publish("device", "list")
    assert (done.code, done.err.splitlines()[0]) == (4, "error: missing permission: devices:read")


def test_a_group_is_edited_as_it_was_read(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/groups/field", Reply(200, GROUP, {"ETag": '"grp_01-1"'}))
    server.on("PATCH", "/api/v1/groups/field", Reply(200, {**GROUP, "revision": 2}))
    done = publish("group", "edit", "field", "--selector", "platform = any", "-o", "table")
    seen = server.requests[-1]
    assert (seen.headers["if-match"], seen.json) == ('"grp_01-1"', {"selector": "platform = any"})
    assert done.out == "canary is at revision 2, 2 devices\n"


def test_a_preview_shows_shares_and_devices(publish: Publish, server: ApiServerSimulator) -> None:
    found = {
        "selector": "labels.site = zrh",
        "devices": 210,
        "active": 200,
        "shares": [{"percent": 1, "devices": 2}, {"percent": 10, "devices": 20}],
        "sample": [{"device": DEVICE, "bucket": 17, "percent": 1}],
    }
    server.on("POST", "/api/v1/groups/preview", Reply(200, found))
    done = publish("group", "preview", "labels.site=zrh", "--rollout", "rol_01", "-o", "table")
    assert server.requests[-1].json == {"selector": "labels.site=zrh", "sample": 20, "rollout_id": "rol_01"}
    assert "210, 200 of them active" in done.out
    assert "1% about 2, 10% about 20; each is inside every larger one" in done.out
    assert "site=zrh  2026-11-21 10:00:00Z  1%" in done.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("group", "edit", "field"),
        ("device", "label", "kiosk"),
        ("device", "label", "kiosk", "site"),
        ("device", "label", "kiosk", "site=a", "--remove", "site"),
        ("device", "label", "kiosk", "--replace", "--remove", "site"),
    ],
)
def test_a_change_that_says_nothing_or_two_things_is_not_sent(
    publish: Publish, server: ApiServerSimulator, arguments: tuple[str, ...]
) -> None:
    assert publish(*arguments).code == 2
    assert server.requests == []
