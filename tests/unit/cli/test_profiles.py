"""Profiles: a server and a person under a name; and tokens in the system's keyring."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from cli.config import Config, Login
from cli.errors import UsageFault
from tests.unit.cli.conftest import Publish

HERE, THERE = "https://here.example", "https://there.example"
FAR_AWAY = "2999-01-01T00:00:00Z"
ANN = Login("wgl_ann", FAR_AWAY, "ann@example.com")
BOB = Login("wgl_bob", FAR_AWAY, "bob@example.com")


class MemoryKeyring(KeyringBackend):
    """A keyring that lasts as long as the test; ``locked`` it raises as real ones do."""

    priority = 5

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the base has no annotations
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def _check(self) -> None:
        if self.locked:
            raise KeyringLocked("the keyring is locked")

    def get_password(self, service: str, username: str) -> str | None:
        self._check()
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._check()
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._check()
        del self.kept[service, username]


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryKeyring]:
    before = keyring.get_keyring()
    found = MemoryKeyring()
    keyring.set_keyring(found)
    monkeypatch.delenv("WAVEGATE_KEYRING")
    yield found
    keyring.set_keyring(before)


def token(config: Config, url: str, profile: str | None = None) -> str | None:
    login = config.login(url, profile)
    return None if login is None else login.token


def test_two_people_at_one_server_are_kept_apart(tmp_path: Path) -> None:
    config = Config(tmp_path)
    config.remember(HERE, ANN, "default")
    config.remember(HERE, BOB, "bob")
    assert (token(config, HERE), token(config, HERE, "bob")) == ("wgl_ann", "wgl_bob")
    assert config.forget(HERE, "bob") is True
    assert (token(config, HERE), token(config, HERE, "bob")) == ("wgl_ann", None)


def test_a_profile_that_is_named_never_takes_somebody_elses_login(tmp_path: Path) -> None:
    config = Config(tmp_path)
    config.remember(HERE, ANN, "ann")
    config.remember(THERE, BOB, "bob")
    assert token(config, HERE, "bob") is None
    assert token(config, THERE, "ann") is None


def test_without_a_profile_the_only_login_at_the_server_counts_and_of_two_none(tmp_path: Path) -> None:
    config = Config(tmp_path)
    config.remember(HERE, ANN, "ann")
    assert token(config, HERE) == "wgl_ann"
    config.remember(HERE, BOB, "bob")
    assert token(config, HERE) is None
    assert token(config, f"{HERE}/below") is None


def test_the_profile_in_use_says_server_and_person(tmp_path: Path) -> None:
    config = Config(tmp_path)
    config.remember(HERE, ANN, "ann")
    config.remember(THERE, BOB, "bob")
    assert config.profile_name(None) == "default"
    config.use("bob")
    assert config.profile_name(None) == "bob"
    assert config.base_url(None, None) == THERE
    assert token(config, THERE) == "wgl_bob"
    assert config.base_url(None, "ann") == HERE
    config.remember(HERE, ANN, "ann")
    assert config.profile_name(None) == "bob"
    with pytest.raises(UsageFault, match=r"no profile 'eve' \(known: ann, bob\)"):
        config.use("eve")


def test_a_profile_that_is_removed_takes_its_login_along(tmp_path: Path) -> None:
    config = Config(tmp_path)
    config.remember(HERE, ANN, "ann")
    config.use("ann")
    assert config.remove("ann").email == "ann@example.com"
    assert config.profiles() == {}
    assert config.profile_name(None) == "default"
    assert "wgl_ann" not in (tmp_path / "credentials").read_text()
    with pytest.raises(UsageFault, match="no profile 'ann'"):
        config.remove("ann")


def test_what_an_earlier_release_stored_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f'[profiles."lab"]\nurl = "{HERE}"\n')
    (tmp_path / "credentials").write_text(
        json.dumps({HERE: {"token": "wgl_old", "expires_at": FAR_AWAY, "email": "ann@example.com"}})
    )
    config = Config(tmp_path)
    assert config.base_url(None, "lab") == HERE
    assert token(config, HERE) == "wgl_old"


def test_profiles_are_listed_chosen_and_removed(publish: Publish, config_dir: Path) -> None:
    config = Config(config_dir)
    config.remember(HERE, ANN, "ann")
    config.remember(THERE, Login("wgl_old", "2020-01-01T00:00:00Z", "bob@example.com"), "bob")
    assert publish("profile", "use", "ann").json == {"name": "ann", "url": HERE, "email": "ann@example.com"}
    assert publish("profile", "list").json == {
        "items": [
            {"name": "ann", "url": HERE, "email": "ann@example.com", "current": True, "logged_in_until": FAR_AWAY},
            {"name": "bob", "url": THERE, "email": "bob@example.com", "current": False, "logged_in_until": None},
        ]
    }
    shown = publish("profile", "list", "-o", "table").out.splitlines()
    assert shown[1].split()[:4] == ["*", "ann", HERE, "ann@example.com"]
    assert publish("profile", "remove", "bob").json == {"name": "bob", "url": THERE, "removed": True}
    assert publish("profile", "use", "bob").code == 2
    assert [one["name"] for one in publish("profile", "list").json["items"]] == ["ann"]


def test_a_keyring_keeps_the_token_and_the_file_does_not(tmp_path: Path, ring: MemoryKeyring) -> None:
    config = Config(tmp_path)
    config.remember(HERE, ANN, "ann")
    assert "wgl_ann" not in (tmp_path / "credentials").read_text()
    assert ring.kept == {("wavegate", f"{HERE}#ann"): "wgl_ann"}
    assert token(config, HERE, "ann") == "wgl_ann"
    assert config.forget(HERE, "ann") is True
    assert ring.kept == {}


def test_a_locked_keyring_is_a_login_to_make_anew_and_never_a_crash(tmp_path: Path, ring: MemoryKeyring) -> None:
    config = Config(tmp_path)
    config.remember(HERE, ANN, "ann")
    ring.locked = True
    assert token(config, HERE, "ann") is None
    config.remember(HERE, BOB, "ann")  # into the file
    assert token(config, HERE, "ann") == "wgl_bob"
    assert config.forget(HERE, "ann") is True


def test_a_keyring_that_is_switched_off_or_keeps_nothing_is_not_used(
    tmp_path: Path, ring: MemoryKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAVEGATE_KEYRING", "off")
    Config(tmp_path / "off").remember(HERE, ANN, "ann")
    monkeypatch.delenv("WAVEGATE_KEYRING")
    monkeypatch.setattr(MemoryKeyring, "priority", 0)
    Config(tmp_path / "nothing").remember(HERE, ANN, "ann")
    assert ring.kept == {}
    for name in ("off", "nothing"):
        assert "wgl_ann" in (tmp_path / name / "credentials").read_text()
