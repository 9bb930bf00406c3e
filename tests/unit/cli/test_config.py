"""What is remembered between calls, and which credential goes first."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest

from cli.config import Config, Login, checked_url
from cli.errors import UsageFault

HERE = "https://here.example"
FAR_AWAY = "2999-01-01T00:00:00Z"
LOGIN = Login("wgl_token", FAR_AWAY, "ann@example.com")


def test_without_anything_the_server_is_this_machine(tmp_path: Path) -> None:
    assert Config(tmp_path).base_url(None, "default") == "http://127.0.0.1:8080"


def test_an_address_in_the_call_goes_before_the_profile(tmp_path: Path) -> None:
    config = Config(tmp_path)
    config.remember(HERE, LOGIN, "default")
    assert config.base_url(None, "default") == HERE
    assert config.base_url("https://there.example/", "default") == "https://there.example"


def test_a_profile_that_does_not_exist_is_a_usage_error(tmp_path: Path) -> None:
    config = Config(tmp_path)
    config.remember(HERE, LOGIN, "lab")
    with pytest.raises(UsageFault, match=r"no profile 'prod' \(known: lab\)"):
        config.base_url(None, "prod")


def test_two_profiles_are_kept_beside_each_other(tmp_path: Path) -> None:
    config = Config(tmp_path)
    config.remember(HERE, LOGIN, "lab")
    config.remember("https://there.example", LOGIN, 'pro"d\\')
    assert config.base_url(None, "lab") == HERE
    assert config.base_url(None, 'pro"d\\') == "https://there.example"


def test_a_login_is_for_its_own_server_only(tmp_path: Path) -> None:
    config = Config(tmp_path)
    config.remember(HERE, LOGIN, "default")
    assert config.credential("https://there.example", api_key_file=None, as_person=True) is None


def test_the_key_file_goes_first_then_the_environment_then_the_login(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("wgk_file\n")
    config = Config(tmp_path / "config", "wgk_environment")
    config.remember(HERE, LOGIN, "default")
    by_file = config.credential(HERE, api_key_file=str(key_file), as_person=False)
    by_environment = config.credential(HERE, api_key_file=None, as_person=False)
    by_login = Config(tmp_path / "config").credential(HERE, api_key_file=None, as_person=False)
    assert by_file is not None
    assert by_file.token == "wgk_file"
    assert by_environment is not None
    assert by_environment.token == "wgk_environment"
    assert by_login is not None
    assert by_login.token == "wgl_token"


def test_what_a_person_must_do_prefers_the_login_to_the_environment(tmp_path: Path) -> None:
    config = Config(tmp_path, "wgk_environment")
    config.remember(HERE, LOGIN, "default")
    found = config.credential(HERE, api_key_file=None, as_person=True)
    assert found is not None
    assert found.token == "wgl_token"


def test_a_login_that_is_over_is_not_sent(tmp_path: Path) -> None:
    config = Config(tmp_path, "wgk_environment")
    config.remember(HERE, Login("wgl_old", "2020-01-01T00:00:00Z", "ann@example.com"), "default")
    found = config.credential(HERE, api_key_file=None, as_person=True)
    assert found is not None
    assert found.token == "wgk_environment"


def test_a_forgotten_login_is_gone(tmp_path: Path) -> None:
    config = Config(tmp_path)
    config.remember(HERE, LOGIN, "default")
    assert config.forget(HERE) is True
    assert config.forget(HERE) is False
    assert "wgl_token" not in (tmp_path / "credentials").read_text()


@pytest.mark.parametrize("mask", [0o000, 0o777])
def test_only_the_owner_can_read_what_is_remembered_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        config = Config(tmp_path / f"config-{mask}")
        if mask == 0o777:
            # A folder nobody may enter would be the umask's doing, not ours.
            config.folder.mkdir()
            config.folder.chmod(0o700)
        config.remember(HERE, LOGIN, "default")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) & 0o077 for path in config.folder.iterdir()}
    assert modes == {"config.toml": 0, "credentials": 0}


@pytest.mark.parametrize(
    "content", ["", "wgk one two", "x" * 5000, "\n"], ids=["empty", "two words", "some other file", "a line end"]
)
def test_a_file_that_holds_no_key_is_a_usage_error(tmp_path: Path, content: str) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(content)
    with pytest.raises(UsageFault, match="holds no API key"):
        Config(tmp_path).credential(HERE, api_key_file=str(key_file), as_person=False)


def test_a_key_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="No such file"):
        Config(tmp_path).credential(HERE, api_key_file=str(tmp_path / "none"), as_person=False)


@pytest.mark.parametrize("content", ["profiles = 3", "[profiles.default]\nport = 3", "not toml", "[profiles]\nx = 1"])
def test_a_damaged_config_file_is_told_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.toml").write_text(content)
    with pytest.raises(UsageFault, match=r"config\.toml"):
        Config(tmp_path).base_url(None, "default")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "wavegate.example",
        "ftp://wavegate.example",
        "https://",
        "https://a:b@host",
        "https://host?x=1",
        "http://h:0x",
    ],
)
def test_an_address_that_is_none_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageFault, match="is not the address of a server"):
        checked_url(url)


def test_a_key_file_may_be_stdin_and_one_that_holds_no_key_is_refused_without_being_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("wgk_from_stdin\n"))
    config = Config(tmp_path / "config", "wgk_of_the_environment")
    piped = config.credential(HERE, api_key_file="-", as_person=True)
    assert piped is not None
    assert (piped.token, piped.origin) == ("wgk_from_stdin", "the key in -")
    wrong = tmp_path / "wrong"
    for content in (b"", b" \n", b"wgk_canary and more", b"wgk_canary" * 1000, b"\xff\xfewgk_canary"):
        wrong.write_bytes(content)
        with pytest.raises(UsageFault, match="holds no API key") as refused:
            config.credential(HERE, api_key_file=str(wrong), as_person=False)
        assert "canary" not in f"{refused.value} {refused.value.hint}"
    with pytest.raises(UsageFault, match="cannot be read: No such file"):
        config.credential(HERE, api_key_file=str(tmp_path / "absent"), as_person=False)
