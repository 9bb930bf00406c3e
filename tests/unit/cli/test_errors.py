"""Exit codes and what is printed when something goes wrong."""

from __future__ import annotations

import importlib
import json

import pytest

from cli.errors import EXIT_BY_CODE, HINTS, ApiRefusal, CliError
from tests.simulators.api_server import ApiServerSimulator, refusal
from tests.unit.cli.conftest import Publish


def _family(root: type[Exception]) -> list[type[Exception]]:
    return [root, *(found for child in root.__subclasses__() for found in _family(child))]


@pytest.mark.parametrize(
    ("room", "root"),
    [
        ("rollout", "RolloutError"),
        ("fleet", "FleetError"),
        ("repo_signing", "RepositoryError"),
        ("sbom", "SbomError"),
        ("keys", "CustodyError"),
        ("store", "StoreError"),
    ],
)
def test_every_error_of_a_room_has_an_exit_code(room: str, root: str) -> None:
    family = _family(getattr(importlib.import_module(f"{room}.errors"), root))
    codes = [str(getattr(error, "code", "")) for error in family]
    assert [code for code in codes if code not in EXIT_BY_CODE] == []


def test_every_error_of_ours_has_a_code_of_its_own() -> None:
    codes = [error.code for error in CliError.__subclasses__() if error not in (ApiRefusal,)]
    assert sorted(codes) == [
        "logs_not_here",
        "not_approved",
        "rollout_stopped",
        "server_unreachable",
        "simulation_failed",
        "unauthenticated",
        "unexpected_answer",
        "usage",
        "verification_failed",
        "wait_timed_out",
    ]


def test_every_hint_is_for_a_code_that_exists() -> None:
    assert [code for code in HINTS if code not in EXIT_BY_CODE] == []


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (400, "invalid_request", 2),
        (401, "unauthenticated", 3),
        (403, "permission_denied", 4),
        (403, "session_required", 4),
        (404, "something_new_not_found", 5),
        (409, "path_taken", 5),
        (412, "precondition_failed", 5),
        (413, "upload_too_large", 1),
        (422, "idempotency_key_reused", 1),
        (500, "internal", 1),
    ],
)
def test_the_exit_code_tells_what_kind_of_refusal_it_was(
    publish: Publish, server: ApiServerSimulator, status: int, code: str, exit_code: int
) -> None:
    server.on("GET", "/api/v1/repository", refusal(status, code))
    assert publish("repo", "status").code == exit_code


def test_a_person_reads_a_line_and_a_hint(publish: Publish, server: ApiServerSimulator) -> None:
    server.on(
        "POST",
        "/api/v1/groups",
        refusal(
            400, "invalid_request", "the body is wrong", details=[{"loc": ["body", "name"], "message": "too long"}]
        ),
    )
    done = publish("group", "create", "x")
    assert done.out == ""
    assert done.err.splitlines() == ["error: the body is wrong", "  body.name: too long", "request: req_1"]


def test_a_program_that_asked_for_json_reads_the_error_as_json(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/users", refusal(403, "permission_denied", "missing", permission="users:admin"))
    done = publish("user", "list", "-o", "json")
    assert done.out == ""
    assert json.loads(done.err) == {
        "error": {
            "code": "permission_denied",
            "message": "missing",
            "request_id": "req_1",
            "permission": "users:admin",
            "hint": "`publish whoami` shows what you may do",
        }
    }


def test_a_message_from_elsewhere_cannot_move_the_cursor(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/repository", refusal(409, "conflict", "\x1b[2Jall is well"))
    assert publish("repo", "status").err.splitlines()[0] == "error: \\x1b[2Jall is well"


def test_a_server_that_is_not_there_is_a_failure_with_a_next_step(publish: Publish) -> None:
    # Port 9 (discard) is closed on any machine that runs tests; a refused connection is tried five times.
    done = publish("repo", "status", "--url", "http://127.0.0.1:9")
    assert done.code == 1
    assert done.err.splitlines() == [
        "error: no answer from http://127.0.0.1:9: Connection refused",
        "hint: is the server running (`publish serve`), and is --url or WAVEGATE_URL its address?",
    ]


@pytest.mark.parametrize(
    "arguments",
    [("nonsense",), ("push",), ("artifact", "show"), ("repo", "status", "--nonsense"), ("repo", "status", "-o", "xml")],
)
def test_a_wrong_call_is_a_usage_error(publish: Publish, arguments: tuple[str, ...]) -> None:
    done = publish(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert "Usage: publish" in done.err


def test_a_wrong_call_that_asked_for_json_is_told_in_json(publish: Publish) -> None:
    done = publish("group", "create", "-o", "json")
    assert done.code == 2
    assert json.loads(done.err)["error"]["code"] == "usage"
