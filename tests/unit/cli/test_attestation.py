"""`publish attestation`, and attestations where artifacts are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli.attestation_words import attestation_in_words
from tests.simulators.api_server import ApiServerSimulator, Reply
from tests.unit.cli.conftest import Publish
from tests.unit.cli.samples import ARTIFACT, ATTESTATION

IN_WORDS = (
    "verified by key 5f5f5f5f5f5f5f5f…, https://slsa.dev/provenance/v1, built by https://builder.example, "
    "from git+https://git.example/app"
)


def test_attaching_sends_the_bytes(publish: Publish, server: ApiServerSimulator, tmp_path: Path) -> None:
    server.on("GET", "/api/v1/artifacts/art_01", Reply(200, ARTIFACT))
    server.on("PUT", "/api/v1/artifacts/art_01/attestations", Reply(201, ATTESTATION))
    (tmp_path / "build.dsse").write_bytes(b"{}")
    assert publish("attestation", "attach", "art_01", str(tmp_path / "build.dsse")).json == ATTESTATION
    assert [seen.body for seen in server.asked("PUT", "/api/v1/artifacts/art_01/attestations")] == [b"{}"]


def test_the_list_says_who_signed_what(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/artifacts/art_01", Reply(200, ARTIFACT))
    server.on("GET", "/api/v1/artifacts/art_01/attestations", Reply(200, {"items": [ATTESTATION]}))
    assert publish("attestation", "list", "art_01").json == {"items": [ATTESTATION]}
    assert IN_WORDS in publish("attestation", "list", "art_01", "-o", "table").out


def test_an_attestation_is_written_as_it_was_published(
    publish: Publish, server: ApiServerSimulator, tmp_path: Path
) -> None:
    server.on("GET", "/api/v1/attestations/att_01", Reply(200, b'{"payload": ""}'))
    assert publish("attestation", "get", "att_01", "--to", str(tmp_path / "out")).json["length"] == 15
    assert (tmp_path / "out").read_bytes() == b'{"payload": ""}'


def test_show_lists_the_attestations(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/artifacts/art_01", Reply(200, ARTIFACT))
    shown = publish("artifact", "show", "art_01", "-o", "table").out
    assert f"att_01  {IN_WORDS}" in shown


@pytest.mark.parametrize(
    ("one", "words"),
    [
        ({"state": "unverified", "reason": "no key", "subject_matches": True}, "unverified: no key"),
        ({"state": "failed", "reason": "no signature", "subject_matches": False}, "failed: no signature"),
        (
            {"state": "verified", "verified_by": [{"identity": "ci@a.example", "issuer": "https://i.example"}]}
            | {"subject_matches": False, "predicate_type": "https://p.example"},
            "verified by ci@a.example (https://i.example), https://p.example, NOT ABOUT THIS ARTIFACT",
        ),
    ],
)
def test_what_was_found_is_told_in_words(one: dict[str, Any], words: str) -> None:
    assert attestation_in_words(one) == words
