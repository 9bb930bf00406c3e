from __future__ import annotations

import re
from itertools import product

import pytest

from repo_signing.errors import InvalidRecord, InvalidTargetPath
from repo_signing.paths import (
    TARGET_PATTERNS,
    VERSIONED_PATTERN,
    ArtifactPath,
    artifact_path,
    attestation_path,
    check_channel,
    check_document_path,
    is_metadata_name,
    sbom_path,
    served_sha256,
    split_artifact_path,
    versioned_name,
)

DIGEST = "ab" * 32
ROLES = ("root", "releases-app_2.x+y", "", ".", "..", "a/b", "Root", "a" * 120, "a" * 121, "root.json\n")


def test_an_artifact_path_joins_four_segments() -> None:
    path = artifact_path("edge-gateway", "2.4.1+build.7", "linux-arm64", "gateway_2.4.1.deb")
    assert path == "edge-gateway/2.4.1+build.7/linux-arm64/gateway_2.4.1.deb"
    assert split_artifact_path(path) == ArtifactPath(
        "edge-gateway", "2.4.1+build.7", "linux-arm64", "gateway_2.4.1.deb"
    )


@pytest.mark.parametrize(
    "segment",
    [
        "",
        ".",
        "..",
        ".hidden",
        "-dash",
        "_under",
        "+plus",
        "Upper",
        "with space",
        "a/b",
        "a\\b",
        "a%2e",
        "a?b",
        "a#b",
        "nul\x00",
        "line\n",
        "ünïcode",
        "e\u0301",
        "\u202eabc",
        "a" * 101,
    ],
)
@pytest.mark.parametrize("place", range(4))
def test_segments_outside_the_grammar_are_refused_wherever_they_stand(segment: str, place: int) -> None:
    segments = ["app", "1.0", "linux", "app.bin"]
    segments[place] = segment
    with pytest.raises(InvalidTargetPath):
        artifact_path(*segments)


@pytest.mark.parametrize("product", ["decisions", "brakes", "revocations"])
def test_reserved_first_segments_are_no_product(product: str) -> None:
    with pytest.raises(InvalidTargetPath, match="reserved"):
        artifact_path(product, "1.0", "linux", "app.bin")


@pytest.mark.parametrize("name", ["app.bin.sbom.0.cyclonedx-json", "app.att.12.slsa", "a.sbom.1.x.y"])
def test_names_of_companions_are_no_artifact(name: str) -> None:
    with pytest.raises(InvalidTargetPath, match="SBOM or attestation"):
        artifact_path("app", "1.0", "linux", name)


@pytest.mark.parametrize("name", ["app.sbom", "app.sbom.json", "sbom.0.json", "app.sbom.x.json", "att.1"])
def test_names_that_only_resemble_companions_are_possible(name: str) -> None:
    assert artifact_path("app", "1.0", "linux", name) == f"app/1.0/linux/{name}"


def test_400_bytes_are_the_most() -> None:
    longest = artifact_path("a" * 100, "b" * 100, "c" * 100, "d" * 97)
    assert len(longest) == 400
    with pytest.raises(InvalidTargetPath, match="401 bytes, at most 400"):
        artifact_path("a" * 100, "b" * 100, "c" * 100, "d" * 98)


@pytest.mark.parametrize("path", ["app/1.0/linux", "app/1.0/linux/x/y", "decisions/app/x", "", "/app/1.0/linux"])
def test_other_shapes_are_no_artifact_path(path: str) -> None:
    with pytest.raises(InvalidTargetPath):
        split_artifact_path(path)


def test_documents_stand_under_decisions_and_brakes() -> None:
    check_document_path("decisions/app/pilot.json")
    check_document_path("brakes/app/pilot.json")
    for path in (
        "revocations/app/x.json",
        "decisions/app",
        "decisions/app/a/b",
        "decisions/../x",
        "app/x/y",
        "brakes//x",
    ):
        with pytest.raises(InvalidTargetPath):
            check_document_path(path)


def test_an_attestation_stands_beside_its_artifact() -> None:
    assert attestation_path("app/1.0/linux/app.bin", 2, "dsse") == "app/1.0/linux/app.bin.att.2.dsse"
    with pytest.raises(InvalidTargetPath, match="attestation kind"):
        attestation_path("app/1.0/linux/app.bin", 0, "in/toto")


def test_an_sbom_stands_beside_its_artifact() -> None:
    assert sbom_path("app/1.0/linux/app.bin", 0, "cyclonedx-json") == "app/1.0/linux/app.bin.sbom.0.cyclonedx-json"


def test_a_channel_is_a_segment() -> None:
    check_channel("stable")
    with pytest.raises(InvalidRecord, match="'Stable '"):
        check_channel("Stable ")


def test_metadata_names() -> None:
    assert versioned_name("12.releases-0a.json") == (12, "releases-0a")
    assert versioned_name("timestamp.json") is None
    assert is_metadata_name("timestamp.json")
    assert is_metadata_name("1.root.json")
    assert versioned_name("7.releases-app_2.x+y.json") == (7, "releases-app_2.x+y")
    for name in (
        "root.json",
        "0.root.json",
        "01.root.json",
        "1..a.json",
        "1.../x.json",
        "1.root.json\n",
        "keyring.json",
    ):
        assert not is_metadata_name(name)


def test_served_names_give_their_digest() -> None:
    assert served_sha256(f"app/1.0/linux/{DIGEST}.app.bin") == DIGEST
    assert served_sha256(f"decisions/app/{DIGEST}.pilot.json") == DIGEST
    for name in (
        f"{DIGEST}.x",
        f"a/{DIGEST}.x",
        f"a/b/c/d/{DIGEST}.x",
        f"a/../c/{DIGEST}.x",
        f"a/b/c/{DIGEST}",
        f"a/b/c/{DIGEST.upper()}.x",
        f"a/b/c/{DIGEST}.x\n",
    ):
        assert served_sha256(name) is None


def by_pattern(name: str) -> str | None:
    """The digest that a web server with the patterns finds, the first that fits."""
    found = (re.fullmatch(pattern, name) for pattern in TARGET_PATTERNS)
    return next((match["sha256"] for match in found if match and match["sha256"].startswith(match["ab"])), None)


def test_the_patterns_for_web_servers_find_what_the_server_itself_finds() -> None:
    other = "cd" * 32
    parts = ["a", "1.0", "", "..", "A", "a" * 100, "a" * 101, f"{DIGEST}.a", f"{DIGEST}.", DIGEST, f"{other}.app.bin"]
    parts += [f"{other}.{'b' * 200}", f"{other}.{'b' * 201}", f"{other}.x\n"]
    found = set()
    for length in (1, 2, 3, 4):
        for segments in product(parts, repeat=length):
            name = "/".join(segments)
            assert by_pattern(name) == served_sha256(name), name
            found.add(served_sha256(name))
    assert found == {None, DIGEST, other}


def test_the_pattern_of_versioned_names_is_that_of_the_server() -> None:
    for number, dot, role, end in product(
        ("1", "0", "01", "9" * 16, "9" * 17), (".", ""), ROLES, (".json", "json", "")
    ):
        name = f"{number}{dot}{role}{end}"
        assert (re.fullmatch(VERSIONED_PATTERN, name) is not None) == (versioned_name(name) is not None), name
