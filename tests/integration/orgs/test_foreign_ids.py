"""Whatever an organisation is asked of another's is answered as if there were no such thing, and nothing changes.

The places come from the routes themselves: a new route, or a new field of one, fails here until it is thought about.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from werkzeug.test import TestResponse
from werkzeug.wrappers import Response

from api.operator.routes import encode_cursor
from tests.integration.orgs.bodies import RAW, body_of
from tests.integration.orgs.filled import PASSING, WITHOUT_ORG, Organisation, Pair
from tests.integration.orgs.places import Place, lists, planted, unknown
from tests.simulators.devices import new_key, request_for

# Where something unknown is no error: lists are empty, and rules may be made before what they are about.
NO_ERROR = {
    "GET /artifacts query product",
    "GET /artifacts query sha256",
    "GET /audit/events query subject",
    "GET /devices query group",
    "GET /devices query name",
    "GET /devices query q",
    "DELETE /devices/{id}/pin query product",
    "GET /products/{product} path product",
    "GET /api-keys query user",
    "GET /audit/events query actor",
    "GET /rollouts query product",
    "GET /rollouts query group",
    "PUT /devices/{id}/pin body product",
    "POST /rollouts body requires.[].product",
    "PATCH /rollouts/{id} body requires.[].product",
    "POST /rollouts/{id}/clone body requires.[].product",
    "POST /rollouts/preview body after",
    "POST /rollouts/preview body product",
    "POST /rollouts/preview body requires.[].product",
    "POST /rollouts/preview body waves.[].group",
    "POST /rollouts/preview body template.groups",
    "POST /exclusions body product",
    "POST /freeze-windows body product",
    "POST /rollout-templates body waves.[].group",
}
DIGEST = re.compile(r"\b[0-9a-f]{64}\b")  # of a plan that has the asked value in it
NEW_NAME = re.compile(r"tried-[0-9a-f]{8}")
NEW_ID = re.compile(r"\b[a-z]{3}_[0-9A-HJKMNP-TV-Z]{26}\b")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)")


def asked(pair: Pair, place: Place, value: str, token: str, *, by: Organisation) -> TestResponse:
    """The request with ``value`` in this one place, and ``by``'s own things in all others."""
    openapi = pair.openapi
    path = place.path
    for name in re.findall(r"\{(\w+)\}", place.path):
        if place.where == "path" and name == place.field:
            own = value
        else:
            same = (one for one in pair.places if (one.method, one.path, one.field) == (place.method, place.path, name))
            kind = next((one.kind for one in same), None)
            own = {"number": "1", "role": "root"}[name] if kind is None else by.things[kind]
        path = path.replace(f"{{{name}}}", own)
    more: dict[str, Any] = {}
    if place.where == "query":
        more["query_string"] = {place.field: value}
    if (place.method, place.path) in RAW:
        content, headers = RAW[place.method, place.path]
        more |= {"data": content, "headers": headers}
    elif "requestBody" in openapi["paths"][f"/api/v1{place.path}"][place.method.lower()]:
        body = body_of(place.method, place.path, place.field, by)
        if place.where == "body":
            body = planted(body, place.field, [value] if lists(openapi, place) else value)
        more["json"] = body
    elif place.path.endswith("/pin") and place.where == "path":
        more["query_string"] = {"product": by.things["product"]}
    return pair.call(place.method, path, token, **more)


def told(answer: Response, value: str) -> tuple[object, ...]:
    """All that an answer tells, without what is the asked value's own and this request's."""
    text = answer.get_data(as_text=True).replace(value, "<asked>")
    text = re.sub(r'"request_id":"[^"]+"', '"request_id":""', text)
    if answer.status_code < 300:
        for pattern in (TIME, NEW_ID, NEW_NAME, DIGEST):
            text = pattern.sub("<new>", text)
    passing = {"x-request-id", "etag", "date", "ratelimit"}  # the last says how much the caller has asked itself
    headers = sorted((k.lower(), v.replace(value, "<asked>")) for k, v in answer.headers if k.lower() not in passing)
    return answer.status_code, headers, text


def test_both_organisations_have_something_of_everything(pair: Pair) -> None:
    assert pair.empty == {"acme": PASSING, "beta": PASSING}
    assert pair.tables_without_org() == WITHOUT_ORG


def test_every_thing_is_there_for_its_own_organisation(pair: Pair) -> None:
    for place in pair.places:
        if place.method == "GET" and place.where == "path" and place.kind != "product":
            answer = asked(pair, place, pair.beta.things[place.kind], pair.beta.admin, by=pair.beta)
            mine = place.kind != "session"  # which is the operator's
            assert (answer.status_code == 200) is mine, (str(place), answer.text)


@pytest.mark.parametrize("caller", ["admin", "operator", "key"])
def test_an_id_of_another_organisation_is_an_unknown_one(pair: Pair, caller: str) -> None:
    """Every place × another's and nobody's value, as one who may do everything, as much, and as a program."""
    token = getattr(pair.acme, caller)
    before = pair.rows("beta"), pair.files("beta")
    reached = 0
    for place in pair.places:
        theirs = pair.beta.things[place.kind]
        foreign = asked(pair, place, theirs, token, by=pair.acme)
        nobodys = asked(pair, place, unknown(theirs), token, by=pair.acme)
        assert told(foreign, theirs) == told(nobodys, unknown(theirs)), str(place)
        status = foreign.status_code
        assert status < 500, (str(place), foreign.text)
        if status == 403:
            assert caller != "admin", str(place)
            continue
        reached += 1
        if str(place) in NO_ERROR:
            assert status in {200, 201, 204, 404, 409}, (str(place), foreign.text)
        else:
            assert status in {400, 404, 409}, (str(place), foreign.text)
            assert foreign.get_json()["error"]["code"] != "validation_failed", (str(place), foreign.text)
    assert reached > 50
    assert (pair.rows("beta"), pair.files("beta")) == before


def test_no_list_shows_anything_of_another_organisation(pair: Pair) -> None:
    theirs = {*pair.beta.things.values(), "beta"}
    assert len(pair.lists) > 20
    for path, text in pair.lists.items():
        assert [one for one in sorted(theirs) if one in text] == [], path


def test_a_cursor_of_another_organisation_is_any_place_in_ones_own_list(pair: Pair) -> None:
    tried = 0
    for path, operations in pair.openapi["paths"].items():
        names = {one.get("name") for one in operations.get("get", {}).get("parameters", ())}
        if "cursor" not in names or "{" in path:
            continue
        for theirs in pair.beta.things.values():
            answers = []
            for position in (theirs, unknown(theirs)):
                with pair.app.test_request_context(path):  # a cursor is of one list
                    query = {"cursor": encode_cursor(position)}
                answer = pair.call("GET", path.removeprefix("/api/v1"), pair.acme.admin, query_string=query)
                answers.append((answer.status_code, answer.get_data(as_text=True).partition('"request_id"')[0]))
            assert answers[0] == answers[1], path
        tried += 1
    assert tried >= 8


def test_the_prefix_of_another_organisation_is_that_of_none(pair: Pair) -> None:
    """On every route, whoever calls; also for somebody who may not call it at all."""
    before = pair.rows("beta"), pair.files("beta")
    for path, operations in pair.openapi["paths"].items():
        rest = re.sub(r"\{\w+\}", "1", path.removeprefix("/api/v1"))
        for method, operation in operations.items():
            if operation["x-permission"] == "public":
                continue
            for token in (pair.acme.admin, pair.acme.key):
                answers = [pair.call(method, f"/orgs/{org}{rest}", token) for org in ("beta", "nobody")]
                assert told(answers[0], "beta") == told(answers[1], "nobody"), (method, path)
                assert answers[0].status_code == 403, (method, path)
                assert answers[0].get_json()["error"]["code"] == "wrong_organization", (method, path)
    assert (pair.rows("beta"), pair.files("beta")) == before


def test_an_enrolment_token_lets_into_its_own_organisation_only(pair: Pair) -> None:
    before = pair.rows("beta")
    body = {
        "token": pair.beta.things["enroll_token_text"],
        "certificate_request": request_for(new_key()).decode(),
        "name": "stray",
        "platform": "linux-x86_64",
    }
    refused = pair.call("POST", "/orgs/acme/enroll", "", json=body)
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (403, "wrong_organization")
    assert pair.rows("beta") == before


# What is served beside the API. Another route there is thought about before it is added here.
BESIDE = {
    "/tuf/<org>/metadata/<name>",
    "/tuf/<org>/targets/<path:name>",
    "/healthz",
    "/readyz",  # these two are the operator's, and passed on by no proxy
    "/metrics",
    "/openapi.json",
    "/docs",
    "/docs.md",
    "/docs/redoc.js",
    "/docs/start.js",
}


def test_what_is_served_beside_the_api_is_known(pair: Pair) -> None:
    assert {rule.rule for rule in pair.app.url_map.iter_rules() if not rule.rule.startswith("/api/v1/")} == BESIDE


def test_a_repository_hands_out_nothing_of_another(pair: Pair) -> None:
    """A target of beta, and every file of its metadata that acme has not, under acme's own address."""
    there = {path.name for path in (pair.settings.home / "orgs/beta/repository/metadata").iterdir()}
    here = {path.name for path in (pair.settings.home / "orgs/acme/repository/metadata").iterdir()}
    sha256 = pair.beta.things["sha256"]
    names = [f"metadata/{name}" for name in sorted(there - here)]
    for name in (*names, f"targets/beta-fw/1.0.0/any/{sha256}.fw.bin", f"targets/{sha256}.beta-fw/1.0.0/any/fw.bin"):
        with pair.client.get(f"/tuf/acme/{name}") as foreign, pair.client.get("/tuf/acme/metadata/x.json") as nobodys:
            assert told(foreign, name) == told(nobodys, "x.json"), name
    with pair.client.get(f"/tuf/beta/targets/beta-fw/1.0.0/any/{sha256}.fw.bin") as own:
        assert own.data == b"firmware of beta"
