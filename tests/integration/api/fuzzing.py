"""Requests made from the OpenAPI document, valid and not, sent to a real home; every answer is held against it.

The chance is one number: the same seed on the same code makes the same requests.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks as told

from tests.integration.api.conftest import Home

CHECKS: Final = [
    schemathesis.checks.not_a_server_error,
    told.status_code_conformance,
    told.content_type_conformance,
    told.response_headers_conformance,
    told.response_schema_conformance,
]
# What the walk made goes into path and body, so that requests get further than to "there is no such thing".
REAL_IN: Final = 3  # of four


@dataclass
class Outcome:
    """How many requests were sent, what they were answered, and the faults, as text."""

    cases: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    reached: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)


def fuzz(
    home: Home, real: Mapping[str, Sequence[str]], *, cases: int, seed_number: int, most_faults: int = 20
) -> Outcome:
    """Send at least ``cases`` requests, spread evenly over all operations.

    Args:
        real: Values by name of parameter or field that mean something to this home.
        most_faults: After so many it stops.
    """
    schema = schemathesis.openapi.from_wsgi("/openapi.json", _read_whole(home))
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    operations.sort(key=lambda one: one.method.upper() == "DELETE")  # what is gone cannot be asked for
    outcome = Outcome()
    turn, token = 0, home.admin()
    while outcome.cases < cases and len(outcome.faults) < most_faults:
        each = max(1, -(-(cases - outcome.cases) // len(operations)))
        for place, operation in enumerate(operations):
            if home.call("GET", "/auth/me", token=token).status_code != 200:
                token = home.admin()  # the operation before ended the login
            modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
            for mode in modes if each > 1 else (modes[place % 2],):
                number = hash((seed_number, turn, place, mode is GenerationMode.POSITIVE)) & 0xFFFFFFFF
                _fuzz_one(operation, mode, real, -(-each // 2), number, token, outcome)
            if outcome.cases >= cases or len(outcome.faults) >= most_faults:
                break
        turn += 1
    return outcome


def _fuzz_one(
    operation: Any,
    mode: GenerationMode,
    real: Mapping[str, Sequence[str]],
    examples: int,
    number: int,
    token: str,
    outcome: Outcome,
) -> None:
    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), chance=st.randoms(use_true_random=False))
    def send(case: Any, chance: random.Random) -> None:
        _put_in(case, real, chance)
        answer = case.call(headers={"Authorization": f"Bearer {token}"})
        outcome.cases += 1
        outcome.statuses[answer.status_code] += 1
        if answer.status_code < 300:
            outcome.reached.add(operation.label)
        try:
            # A part of a JSON file is no JSON.
            partial = [told.response_schema_conformance] if answer.status_code == 206 else []
            case.validate_response(answer, checks=CHECKS, excluded_checks=partial)
        except FailureGroup as group:
            outcome.faults += [f"{operation.label}: {fault}\n{case.as_curl_command()}" for fault in group.exceptions]

    try:
        send()
    except Unsatisfiable:
        return  # nothing can be wrong about an operation that takes nothing


def _read_whole(home: Home) -> Callable[..., list[bytes]]:
    """The application, with each answer read and closed: nobody else closes the files that are sent."""

    def answer(environ: dict[str, Any], start: Any) -> list[bytes]:
        body = home.app(environ, start)
        try:
            return [b"".join(body)]
        finally:
            if hasattr(body, "close"):
                body.close()

    return answer


def _put_in(case: Any, real: Mapping[str, Sequence[str]], chance: random.Random) -> None:
    parts = [case.path_parameters]
    if isinstance(case.body, dict):
        parts.append(case.body)
    for part in parts:
        for name in part or ():
            kind = case.path.partition(f"/{{{name}}}")[0].rpartition("/")[2] if name == "id" else name
            if real.get(kind) and chance.randrange(4) < REAL_IN:
                part[name] = chance.choice(real[kind])
