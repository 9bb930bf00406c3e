"""The home on the disk: there, whole, closed to others, with keys that open and room to write."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from api.doctor.model import Check, Looks, certificate, fail, unknown, warn, well
from api.settings import Settings
from api.wiring import MARKER, bucket_address, device_ca_folder, keys_folder, repository_folder
from keys.device_ca import DeviceCa
from keys.errors import CustodyError
from keys.keyring import Keyring
from repo_signing.bucket import Bucket
from repo_signing.errors import RepositoryError
from repo_signing.roles import is_offline

_LEAST_FREE: Final = 256 * 1024**2  # bytes; below, a commit may not find room for its metadata
_FREE_PERCENT: Final = 10
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_MOST_NAMED: Final = 3
_ROTATION_SPAN: Final = timedelta(days=45)  # by then every certificate of the usual 30 days was renewed or is over
_TRIAL: Final = "doctor/trial"


def home(settings: Settings) -> Looks:
    """Whether there is a finished home, and whose it is."""
    folder = settings.home
    if not (folder / MARKER).is_file():
        if folder.is_dir() and any(folder.iterdir()):
            todo = "name another WAVEGATE_HOME; a home whose making was cut short is removed and made anew"
            yield fail("home", f"{folder} holds files and is no finished home", todo)
        else:
            yield fail("home", f"there is no home at {folder}", "make one with `publish init`, or set WAVEGATE_HOME")
        return
    found = folder.stat()
    if found.st_uid != os.geteuid():
        todo = f"run this and the server as user {found.st_uid}, or change the owner of all of it"
        yield fail("home", f"{folder} belongs to user {found.st_uid}, this is user {os.geteuid()}", todo)
    elif found.st_mode & _OTHERS:
        yield fail("home", f"other users may enter {folder}", f"chmod 700 {folder}")
    else:
        found_here = organisations(settings)
        named = "no organisation yet" if not found_here else f"organisation {', '.join(found_here)}"
        yield well("home", f"{folder}, {named}")


def organisations(settings: Settings) -> list[str]:
    """The slugs of organisations with keys here. The folders say it: the database may be away, or not migrated yet."""
    places = (settings.home / "orgs").glob("*/keys")
    return sorted(one.parent.name for one in places if one.is_dir())


def key_files(settings: Settings, org: str) -> Looks:
    """Whether what opens keys is its owner's alone, and the offline keys are away."""
    places = (keys_folder(settings, org), settings.home / "device-ca", settings.home / "orgs" / org / "offline-keys")
    files = [path for place in places for path in (place, *place.rglob("*")) if path.exists()]
    files += settings.home.glob("wavegate.db*")
    open_to_others = [path for path in files if path.stat().st_mode & _OTHERS]
    # What lies in a closed folder is closed, whatever its own mode; the folder is judged as the home.
    private = [path for path in open_to_others if not _is_closed_above(path, settings.home)]
    if private:
        named = ", ".join(str(path.relative_to(settings.home)) for path in private[:_MOST_NAMED])
        more = f" and {len(private) - _MOST_NAMED} more" if len(private) > _MOST_NAMED else ""
        todo = f"chmod -R go-rwx {settings.home}; then ask who could read the keys, and rotate them"
        yield fail("key files", f"other users may read {named}{more}", todo)
    else:
        yield well("key files", f"{len(files)} files and folders are their owner's alone")
    if places[2].is_dir():
        todo = f"move {places[2]} to where no server is; `publish repo draft` says when it is needed"
        yield warn("offline keys", "the keys of root and targets are on this machine", todo)
    else:
        yield well("offline keys", "not on this machine")


def _is_closed_above(path: Path, home_: Path) -> bool:
    parents = [one for one in path.parents if one == home_ or home_ in one.parents]
    return any(not one.stat().st_mode & _OTHERS for one in parents)


def custody(settings: Settings, org: str) -> Looks:
    """Whether every key that the server signs with can be reached."""
    try:
        keyring = Keyring(keys_folder(settings, org))
        online = [name for name in keyring.names() if not is_offline(name)]
        for name in online:
            keyring.signer(name)
        yield well("keys", f"those of {', '.join(online)} can be reached")
    except CustodyError as error:
        yield fail("keys", str(error), "put the keys back, from a backup if need be; a signer process must be running")


def device_ca(settings: Settings, now: datetime) -> Looks:
    """Whether the CA of device certificates opens, and how long it lasts."""
    try:
        authority = DeviceCa.open(device_ca_folder(settings))
    except CustodyError as error:
        yield fail("device CA", str(error), "put device-ca back from a backup; devices know no other")
        return
    todo = "`publish device-ca rotate`, and finish it once all devices have renewed"
    yield certificate("device CA", authority.not_after, now, todo)
    *_, newest = authority.authorities
    if len(authority.authorities) > 1 and now - newest.issues_from > _ROTATION_SPAN:
        began = f"it is being rotated since {newest.certificate.not_valid_before_utc:%Y-%m-%d}"
        yield warn("device CA rotation", began, "`publish device-ca rotate --finish`; until then the old key counts")


def disk(settings: Settings) -> Looks:
    """Whether there is room where the server writes."""
    places = {"home": settings.home, "repository": settings.storage, "temporary files": Path(tempfile.gettempdir())}
    seen: set[int] = set()
    for name, place in places.items():
        if not place.exists() or place.stat().st_dev in seen:
            continue
        seen.add(place.stat().st_dev)
        usage = shutil.disk_usage(place)
        free, percent = usage.free, usage.free * 100 // max(usage.total, 1)
        told = f"{free // 1024**2} MiB free ({percent} %) at {place}"
        if free < _LEAST_FREE:
            todo = "make room, or publishing fails: `publish repo gc`, logs, backups; nothing signed is lost"
            yield fail(f"disk: {name}", told, todo)
        elif percent < _FREE_PERCENT:
            yield warn(f"disk: {name}", told, "make room before it is needed: `publish repo gc --dry-run`")
        else:
            yield well(f"disk: {name}", told)


def storage(settings: Settings, org: str) -> Looks:
    """Whether the repository's place can be read and written; leaves nothing there."""
    yield _bucket(settings, org) if settings.bucket else _folder(repository_folder(settings, org))


def _folder(folder: Path) -> Check:
    staging = folder / "staging"
    place = staging if staging.is_dir() else folder
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".doctor-") as trial:
            trial.write(b"trial")
            trial.flush()
            os.fsync(trial.fileno())
    except OSError as error:
        todo = "look at the mount, its owner and the disk"
        return fail("storage", f"{place} cannot be written: {error.strerror or error}", todo)
    return well("storage", f"{folder} can be read and written")


def _bucket(settings: Settings, org: str) -> Check:
    try:
        bucket = Bucket(bucket_address(settings).below(org))
        standing = bucket.get("metadata/timestamp.json")
        bucket.remove(_TRIAL)
        bucket.create(_TRIAL, b"trial")
        bucket.remove(_TRIAL)
    except (RepositoryError, OSError) as error:
        todo = "look at storage_url, storage_endpoint and the credentials in the server's environment (docs/storage.md)"
        return fail("storage", f"the bucket cannot be used: {error}", todo)
    if standing is None:
        return unknown("storage", "the bucket can be written and holds no repository yet", "finish the first ceremony")
    return well("storage", f"{settings.bucket} can be read and written")
