"""The whole examination, in the order in which one thing needs another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from api.doctor import home, network, stores
from api.doctor.model import Check, Level, Looks, guarded, unknown, warn, well
from api.settings import Settings
from api.wiring import MARKER, open_database
from store.errors import StoreError


def examine(settings: Settings, now: datetime) -> list[Check]:
    """Look at a home and at its server, which may run or not. Nothing is changed, nothing is made.

    With several organisations, what is looked at in each is named by it.
    """
    checks = [*_settings(settings), *guarded("home", lambda: home.home(settings))]
    if not (settings.home / MARKER).is_file():
        return checks
    orgs = home.organisations(settings)
    ask = network.asking(f"http://{settings.listen}")
    serving = network.serves(ask)
    for org in orgs:
        checks += _named(orgs, org, guarded("key files", partial(home.key_files, settings, org)))
        checks += _named(orgs, org, guarded("keys", partial(home.custody, settings, org)))
        checks += _named(orgs, org, guarded("storage", partial(home.storage, settings, org)))
    looks: list[tuple[str, Callable[[], Looks]]] = [
        ("device CA", lambda: home.device_ca(settings, now)),
        ("disk", lambda: home.disk(settings)),
        ("ports", lambda: network.ports(settings, serving=serving)),
        ("server", lambda: _server(settings, ask, now, serving=serving)),
        ("database", lambda: _stored(settings, orgs, now, serving=serving)),
    ]
    for name, look in looks:
        checks += guarded(name, look)
    return checks


def is_well(checks: list[Check]) -> bool:
    """Whether nothing failed; a warning is no failure."""
    return all(one.level is not Level.FAIL for one in checks)


def _settings(settings: Settings) -> Looks:
    yield well("settings", "every name is known and every value in range")
    if settings.require_password_change is False and settings.public_url.startswith("https://"):
        todo = "set WAVEGATE_REQUIRE_PASSWORD_CHANGE=true: a one-time password then serves for nothing else"
        yield warn("one-time passwords", "who has one may work with it", todo)
    behind = settings.public_url.startswith("https://") and not settings.trusted_proxies
    if behind:
        todo = "name the proxy in WAVEGATE_TRUSTED_PROXIES, or all callers share its count of failed logins"
        yield warn("proxy", "the public URL is a proxy's, and no proxy is trusted", todo)


def _server(settings: Settings, ask: network.Ask, now: datetime, *, serving: bool) -> Looks:
    if not serving:
        yield warn("server", f"nobody answers on {settings.listen}", "start it: `publish serve`")
        return
    yield network.ready(ask)
    yield network.port_certificate(settings, now)
    yield network.site_certificate(settings.public_url, now)


def _named(orgs: Sequence[str], org: str, checks: Iterable[Check]) -> Looks:
    for one in checks:
        yield one if len(orgs) == 1 else replace(one, name=f"{org}: {one.name}")


def _stored(settings: Settings, orgs: Sequence[str], now: datetime, *, serving: bool) -> Looks:
    try:
        db = open_database(settings)
    except StoreError as error:
        yield Check("database", Level.FAIL, str(error), "see WAVEGATE_DATABASE_URL")
        return
    try:
        found = list(stores.database(settings, db, now))
        yield from found
        if any(one.level is not Level.OK for one in found if one.name == "database"):
            for name in ("metadata", "repository", "leader", "backup"):
                yield unknown(name, "not without the database")
            return
        for org in orgs:
            yield from _named(orgs, org, guarded("repository", partial(stores.repository, settings, org, db, now)))
            yield from _named(orgs, org, [stores.leader(org, db, serving=serving), stores.backup(org, db, now)])
    finally:
        db.close()
