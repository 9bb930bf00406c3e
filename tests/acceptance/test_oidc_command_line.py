"""`publish login --oidc`, `--link` and `--device` against a stock provider, each in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from api.app import create_app
from api.settings import read_settings
from api.setup import Initialised, initialise
from api.wiring import open_wavegate
from cli.config import Config
from tests.acceptance.oidc_provider.people import CLIENT_ID, Provider, oidc_provider
from tests.unit.cli.conftest import on_a_terminal

PEOPLE = {
    "ann-1": {"email": "ann@example.com", "email_verified": True, "name": "Ann"},
    "bob-1": {"email": "bob@example.com", "email_verified": True, "name": "Bob"},
    "eve-1": {"email": "eve@example.com", "email_verified": True, "name": "Eve"},
}

# A browser whose person logs in at once. Some other page tries to answer in the provider's place first.
BROWSER = """
import sys, urllib.error, urllib.request
from tests.acceptance.oidc_provider.people import Provider
from urllib.parse import parse_qs, urlsplit
opened = urllib.request.build_opener(urllib.request.ProxyHandler({}))
asked = parse_qs(urlsplit(sys.argv[1]).query)
for query in ("code=mine", "code=mine&state=other"):
    try:
        opened.open(asked["redirect_uri"][0] + "?" + query)
    except urllib.error.HTTPError as error:
        assert error.code == 404
place = Provider({issuer!r}).log_in(sys.argv[1], {login!r})
assert "You can close this window" in opened.open(place).read().decode()
"""


class Server:
    """A server on loopback whose people log in by the provider, without a secret of its own."""

    def __init__(self, url: str, provider: Provider, made: Initialised, folder: Path) -> None:
        self.url, self.provider, self.made, self._folder = url, provider, made, folder

    def on_a_terminal(self, *words: str, config: Path, login: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
        """Run `publish login` at a terminal, with a browser whose person is ``login``."""
        script = self._folder / f"browser-{login}.py"
        script.write_text(BROWSER.replace("{issuer!r}", repr(self.provider.issuer)).replace("{login!r}", repr(login)))
        monkeypatch.setenv("BROWSER", f"{sys.executable} {script} %s")
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
        return on_a_terminal("login", *words, "--url", self.url, config=config)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("oidc-command-line")
    with oidc_provider(PEOPLE, "http://127.0.0.1:8080/api/v1/auth/oidc/callback", secret=None) as provider:
        environ = {
            "WAVEGATE_HOME": str(folder / "home"),
            "WAVEGATE_PASSWORD_MEMORY_KIB": "8192",
            "WAVEGATE_OIDC_ISSUER": provider.issuer,
            "WAVEGATE_OIDC_CLIENT_ID": CLIENT_ID,
            "WAVEGATE_OIDC_ALLOW": "127.0.0.1",
            "WAVEGATE_OIDC_EMAIL_DOMAINS": "example.com",
            "WAVEGATE_OIDC_DEFAULT_ROLE": "viewer",
        }
        settings = read_settings(environ)
        made = initialise(settings, org="acme", admin="admin@example.com", now=datetime.now(UTC))
        wiring = open_wavegate(settings)
        listening = make_server("127.0.0.1", 0, create_app(wiring), threaded=True)
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield Server(f"http://127.0.0.1:{listening.server_port}", provider, made, folder)
        finally:
            listening.shutdown()
            thread.join()
            listening.server_close()
            wiring.close()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("WAVEGATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WAVEGATE_KEYRING", "off")
    return tmp_path / "config"


def publish(*words: str, config: Path) -> subprocess.CompletedProcess[str]:
    """Run `publish` without a terminal."""
    return subprocess.run(
        [sys.executable, "-c", "from cli.main import main; main()", *words],
        env={**os.environ, "WAVEGATE_CONFIG_DIR": str(config)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_person_logs_in_in_their_browser_and_out_again(
    server: Server, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, screen = server.on_a_terminal("--oidc", config=config, login="ann-1", monkeypatch=monkeypatch)
    assert code == 0, screen
    assert "as ann@example.com (viewer) until" in screen
    told = publish("whoami", "--url", server.url, "-o", "table", config=config).stdout
    assert "by            the login of ann@example.com" in told
    assert publish("logout", "--url", server.url, config=config).returncode == 0
    assert publish("whoami", "--url", server.url, config=config).returncode == 3
    assert Config(config).login(server.url) is None


@pytest.mark.nightly
def test_an_account_that_is_in_use_is_linked_by_its_person(
    server: Server, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old").write_text(server.made.admin_password)
    (tmp_path / "new").write_text("a long enough password")
    words = ("--email", "admin@example.com", "--password-file", str(tmp_path / "old"))
    done = publish("login", *words, "--new-password-file", str(tmp_path / "new"), "--url", server.url, config=config)
    assert done.returncode == 0, done.stderr
    link = ("--oidc", "--link", "--password-file", str(tmp_path / "new"))
    code, screen = server.on_a_terminal(*link, config=config, login="eve-1", monkeypatch=monkeypatch)
    assert (code, "linked to eve-1 at" in screen) == (0, True), screen
    other = tmp_path / "other"
    code, screen = server.on_a_terminal("--oidc", config=other, login="eve-1", monkeypatch=monkeypatch)
    assert "as admin@example.com (admin) until" in screen


@pytest.mark.nightly
def test_a_machine_without_a_browser_shows_a_code_and_waits(server: Server, config: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "from cli.main import main; main()", "login", "--device", "--url", server.url],
        env={**os.environ, "WAVEGATE_CONFIG_DIR": str(config)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        assert waiting.stderr is not None
        line = waiting.stderr.readline()
        place = re.search(r"open (\S+) in any browser", line)
        assert place is not None, line
        assert "Success" in server.provider.log_in(place[1], "bob-1")
        out, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, '"email": "bob@example.com"' in out) == (0, True), err
    login = Config(config).login(server.url)
    assert login is not None
    assert login.email == "bob@example.com"
