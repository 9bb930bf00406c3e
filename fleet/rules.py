"""What names, labels and facts may look like, and when a device counts as online."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from evidence.ids import is_id
from fleet.errors import InvalidFleetInput
from fleet.model import Device

ONLINE_WITHIN: Final = timedelta(minutes=15)  # three heartbeats of the default five minutes: two may get lost
_LEAST_ONLINE: Final = timedelta(seconds=15)  # heartbeats are written together, up to some seconds after they came
MAX_FACT: Final = 255  # characters of what a device tells of itself (host name, system, versions)
MAX_STATE: Final = 1_000  # characters of the one line for people
MAX_LABELS: Final = 32
MAX_DESCRIPTION: Final = 1_000

_DEVICE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# A group's name is part of the target paths decisions/<product>/<group>.json, whose segments hold 100 characters.
_GROUP_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._+-]{0,94}")
_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9._+-]{0,99}")
_TOKEN_NAME: Final = re.compile(r"\S(.{0,98}\S)?")
_LABEL_KEY: Final = re.compile(r"[a-z0-9][a-z0-9._/-]{0,62}")


def checked_device_name(name: str) -> str:
    """Answer ``name`` if a device may have it.

    1 to 100 of ``A-Za-z0-9._-``, the first a letter or digit, and not the shape of an id: a route takes either.

    Raises:
        InvalidFleetInput: Anything else.
    """
    if _DEVICE_NAME.fullmatch(name) is None:
        raise InvalidFleetInput(
            f"device name {_shown(name)} is not 1 to 100 of A-Z a-z 0-9 . _ - beginning with a letter or digit"
        )
    if is_id(name, "dev"):
        raise InvalidFleetInput(f"device name {_shown(name)} has the shape of a device id; choose a name of your own")
    return name


def checked_group_name(name: str) -> str:
    """Answer ``name`` if a group may have it: 1 to 95 of ``a-z0-9._+-``, the first a letter or digit.

    Raises:
        InvalidFleetInput: Anything else.
    """
    if _GROUP_NAME.fullmatch(name) is None:
        raise InvalidFleetInput(
            f"group name {_shown(name)} is not 1 to 95 of a-z 0-9 . _ + - beginning with a letter or digit"
        )
    return name


def checked_platform(platform: str) -> str:
    """Answer ``platform`` if it is a slug as artifacts use it, e.g. ``linux-x86_64``.

    ``any`` is refused: it is what an artifact for every platform says, and no device's own name.

    Raises:
        InvalidFleetInput: Anything else.
    """
    if _SLUG.fullmatch(platform) is None:
        raise InvalidFleetInput(
            f"platform {_shown(platform)} is not 1 to 100 of a-z 0-9 . _ + - beginning with a letter or digit"
        )
    if platform == "any":
        raise InvalidFleetInput("platform 'any' is an artifact's, a device names its own, for example linux-x86_64")
    return platform


def checked_token_name(name: str) -> str:
    """Answer ``name`` if an enrolment token may have it: 1 to 100 printable characters, no blanks at the ends.

    Raises:
        InvalidFleetInput: Anything else.
    """
    if _TOKEN_NAME.fullmatch(name) is None or not name.isprintable():
        raise InvalidFleetInput(f"token name {_shown(name)} is not 1 to 100 printable characters without outer blanks")
    return name


def checked_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Answer the labels if they hold to the grammar.

    At most 32; keys 1 to 63 of ``a-z0-9._/-`` beginning with a letter or digit; values up to 255 printable characters.

    Raises:
        InvalidFleetInput: Anything else, naming the first label that does not.
    """
    if len(labels) > MAX_LABELS:
        raise InvalidFleetInput(f"{len(labels)} labels, at most {MAX_LABELS} are kept")
    for key, value in labels.items():
        if _LABEL_KEY.fullmatch(key) is None:
            raise InvalidFleetInput(
                f"label {_shown(key)} is not 1 to 63 of a-z 0-9 . _ / - beginning with a letter or digit"
            )
        if len(value) > MAX_FACT or not value.isprintable():
            raise InvalidFleetInput(f"the value of label {key!r} is not at most {MAX_FACT} printable characters")
    return dict(labels)


def checked_description(text: str) -> str:
    """Answer a group's description if it has at most 1,000 characters and no control characters but line ends.

    Raises:
        InvalidFleetInput: Anything else.
    """
    if len(text) > MAX_DESCRIPTION or any(unicodedata.category(c) == "Cc" and c != "\n" for c in text):
        raise InvalidFleetInput(f"a description has at most {MAX_DESCRIPTION} characters and no control characters")
    return text


def told(text: str, limit: int = MAX_FACT) -> str:
    """What a device says of itself, made fit to keep and show: no control characters, at most ``limit`` characters.

    It is cut rather than refused, because a heartbeat must not fail over an odd host name.
    """
    return "".join(c for c in text if c.isprintable())[:limit].strip()


def online(device: Device, now: datetime, *, within: timedelta = ONLINE_WITHIN) -> bool:
    """Whether the device called within the span; one that never called is not."""
    return device.last_seen_at is not None and now - device.last_seen_at <= within


def online_within(check_in: timedelta) -> timedelta:
    """How long a device that is asked to call this often counts as online after a call: two calls may get lost."""
    return max(3 * check_in, _LEAST_ONLINE)


def is_back(last_seen_at: datetime | None, at: datetime, within: timedelta) -> bool:
    """Whether a call at ``at`` ends a silence: the device was offline until then, or has never called."""
    return last_seen_at is None or at - last_seen_at > within


def _shown(text: str) -> str:
    return repr(text if len(text) <= 120 else f"{text[:120]}…")
