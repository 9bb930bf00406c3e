"""What `publish repo nginx` prints, and for which homes it prints nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from api.nginx import NotForNginx, nginx_locations
from api.settings import read_settings


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def lines(home: Path, seen_at: Path | None = None, orgs: Sequence[str] = ("acme",), **settings: str) -> list[str]:
    text = nginx_locations(read_settings({"WAVEGATE_HOME": str(home), **settings}), orgs, seen_at=seen_at)
    return [line.strip() for line in text.splitlines()]


def test_files_come_from_the_repository_folder_and_no_other(home: Path) -> None:
    folder = home / "orgs" / "acme" / "repository"
    assert {line for line in lines(home) if line.startswith("alias")} == {
        f'alias "{folder}/metadata/timestamp.json";',
        f'alias "{folder}/metadata/$wavegate_name";',
        f'alias "{folder}/blobs/$wavegate_ab/$wavegate_sha256";',
    }


def test_a_folder_that_nginx_sees_elsewhere_is_named_there(home: Path) -> None:
    text = lines(home, seen_at=Path("/srv/wave gate"))
    assert 'alias "/srv/wave gate/metadata/timestamp.json";' in text
    assert not any(str(home) in line for line in text)


def test_what_is_not_the_repository_is_passed_on_to_where_the_server_listens(home: Path) -> None:
    for listen, expected in (
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("0.0.0.0:9000", "127.0.0.1:9000"),
        ("[::]:9000", "[::1]:9000"),
        ("10.1.2.3:80", "10.1.2.3:80"),
    ):
        text = lines(home, WAVEGATE_LISTEN=listen)
        assert {line for line in text if line.startswith("proxy_pass")} == {f"proxy_pass http://{expected};"}
    assert [line for line in text if line.startswith("location") and "/tuf/" not in line] == [
        "location @wavegate_absent {",
        "location ^~ /api/ {",
        "location = /healthz {",
        "location = /docs {",
        "location ^~ /docs/ {",
        "location = /docs.md {",
        "location = /openapi.json {",
    ]


@pytest.mark.parametrize("folder", ["/srv/$home", '/srv/"', "/srv/a\\b", "/srv/a\nb", "srv"])
def test_a_folder_that_nginx_would_misread_is_refused(home: Path, folder: str) -> None:
    with pytest.raises(NotForNginx, match="cannot stand in nginx's configuration"):
        lines(home, seen_at=Path(folder))


def test_a_bucket_is_not_handed_out_from_its_copy(home: Path) -> None:
    with pytest.raises(NotForNginx, match="a copy that follows when the server is asked"):
        lines(home, WAVEGATE_STORAGE_URL="s3://fleet/wavegate")


def test_a_port_that_changes_at_each_start_is_refused(home: Path) -> None:
    with pytest.raises(NotForNginx, match="port 0"):
        lines(home, WAVEGATE_LISTEN="127.0.0.1:0")


def test_each_organisation_has_its_own_places_and_its_own_folder(home: Path) -> None:
    text = lines(home, orgs=("acme", "beta"))
    assert [line for line in text if line.startswith("location = /tuf/")] == [
        "location = /tuf/acme/metadata/timestamp.json {",
        "location = /tuf/beta/metadata/timestamp.json {",
    ]
    assert f'alias "{home}/orgs/beta/repository/metadata/timestamp.json";' in text
    assert sum(line.count("{") for line in text) == sum(line.count("}") for line in text)


def test_a_folder_seen_elsewhere_has_the_slug_in_it_when_there_are_several(home: Path) -> None:
    text = lines(home, seen_at=Path("/srv/ORG/repository"), orgs=("acme", "beta"))
    assert 'alias "/srv/beta/repository/metadata/timestamp.json";' in text
    with pytest.raises(NotForNginx, match="write ORG in --at"):
        lines(home, seen_at=Path("/srv/repository"), orgs=("acme", "beta"))
