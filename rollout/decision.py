"""The documents that tell a cohort what to run, as devices read them.

A decision opens a release to a range of buckets of one group; a brake stops it. Both are targets of the signed
repository, canonical JSON. Only this module knows their form: the server writes through it, the agent reads through it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from rollout.budget import Budget, budget_faults, budget_to_dict, read_budget
from rollout.errors import InvalidPlan
from rollout.model import Requirement, RetryPolicy, retry_to_dict
from rollout.reading import Reader
from rollout.windows import InvalidWindow, Window, window_faults, window_from_dict, window_to_dict

FORMAT: Final = 1
RULES_FORMAT: Final = 2  # of a decision with rules that an agent of before them would not see; it leaves such a one out
SECURITY: Final = "security"
DECISIONS: Final = "decisions/"  # where they are among the targets
MAX_DOCUMENT_LENGTH: Final = 256 * 1024  # bytes; a decision names at most a few thousand retried devices


class Stance(StrEnum):
    """What a document asks of the devices it reaches."""

    OPEN = "open"
    HALTED = "halted"
    ROLL_BACK = "roll_back"


class MalformedDocument(ValueError):
    """The bytes are no decision or brake of a format this code knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionArtifact:
    """What one platform installs: TUF target path, length in bytes, lower-case hex SHA-256."""

    path: str
    length: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """``decisions/<product>/<group>.json``.

    The cohort is every device whose bucket (``rollout.cohort.bucket``) is in ``[cohort_from, cohort_to)``. ``attempt``
    and ``device_attempts`` say which attempt is offered: a device that failed a lower one tries again.
    Devices start ``rollout.cohort.starts_after`` seconds behind ``spread_from``.
    ``submitted_at`` orders decisions of different groups that reach one device: the latest counts, after those of
    priority ``security``, which the document tells only then.
    """

    org: str
    product: str
    channel: str
    group: str
    rollout: str
    plan_hash: str
    wave: int
    revision: int
    submitted_at: datetime
    version: str
    artifacts: Mapping[str, DecisionArtifact]
    salt: str
    cohort_from: int
    cohort_to: int
    attempt: int = 1
    device_attempts: Mapping[str, int] = field(default_factory=dict)
    not_before: datetime | None = None
    expires: datetime | None = None
    allow_downgrade: bool = False
    from_versions: tuple[str, ...] = ()
    requires: tuple[Requirement, ...] = ()
    window: Window | None = None
    spread_from: datetime | None = None
    spread_seconds: int = 0
    retry: RetryPolicy | None = None
    is_security: bool = False
    budget: Budget | None = None

    def attempt_for(self, device: str) -> int:
        """The attempt this device is offered, 1 or more."""
        return max(self.attempt, self.device_attempts.get(device, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Brake:
    """``brakes/<product>/<group>.json``: beats a decision of the same rollout and wave, or an earlier wave."""

    org: str
    product: str
    channel: str
    group: str
    rollout: str
    plan_hash: str
    wave: int
    revision: int
    stance: Stance
    reason: str


def decision_path(product: str, group: str) -> str:
    """Target path of a group's decision for a product."""
    return f"{DECISIONS}{product}/{group}.json"


def brake_path(product: str, group: str) -> str:
    """Target path of a group's brake for a product."""
    return f"brakes/{product}/{group}.json"


def encode_decision(decision: Decision) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8; the same decision always gives the same bytes."""
    rules = _rules_out(decision)
    must_be_known = rules.keys() & {"requires", "spread", "budget"}
    return _encode(
        rules
        | {
            "_type": "wavegate-decision",
            "format": RULES_FORMAT if must_be_known else FORMAT,
            "org": decision.org,
            "product": decision.product,
            "channel": decision.channel,
            "group": decision.group,
            "rollout": decision.rollout,
            "plan_hash": decision.plan_hash,
            "wave": decision.wave,
            "revision": decision.revision,
            "state": Stance.OPEN.value,
            "submitted_at": _time_out(decision.submitted_at),
            "version": decision.version,
            "artifacts": {
                platform: {"path": a.path, "length": a.length, "sha256": a.sha256}
                for platform, a in decision.artifacts.items()
            },
            "cohort": {"salt": decision.salt, "from": decision.cohort_from, "to": decision.cohort_to},
            "attempt": decision.attempt,
            "device_attempts": dict(decision.device_attempts),
            "not_before": _time_out(decision.not_before),
            "expires": _time_out(decision.expires),
            "window": None if decision.window is None else window_to_dict(decision.window),
            "version_policy": {"downgrade": decision.allow_downgrade, "from": list(decision.from_versions)},
            **({"priority": SECURITY} if decision.is_security else {}),
        }
    )


def decode_decision(document: bytes) -> Decision:
    """Read a decision; raises MalformedDocument naming what is wrong, also for a format that is not known."""
    fields = _decode(document, "wavegate-decision", FORMAT, RULES_FORMAT)
    try:
        if fields["state"] != Stance.OPEN.value:
            raise MalformedDocument(f"a decision's state is 'open', found {fields['state']!r}; stopping is a brake's")
        cohort, policy = fields["cohort"], fields["version_policy"]
        decision = Decision(
            org=_text(fields["org"]),
            product=_text(fields["product"]),
            channel=_text(fields["channel"]),
            group=_text(fields["group"]),
            rollout=_text(fields["rollout"]),
            plan_hash=_text(fields["plan_hash"]),
            wave=_number(fields["wave"], 1),
            revision=_number(fields["revision"], 1),
            submitted_at=_some(_time_in(fields["submitted_at"])),
            version=_text(fields["version"]),
            artifacts={
                _text(platform): DecisionArtifact(
                    path=_text(a["path"]), length=_number(a["length"], 0), sha256=_text(a["sha256"])
                )
                for platform, a in fields["artifacts"].items()
            },
            salt=_text(cohort["salt"]),
            cohort_from=_number(cohort["from"], 0),
            cohort_to=_number(cohort["to"], 0),
            attempt=_number(fields["attempt"], 1),
            device_attempts={_text(d): _number(n, 1) for d, n in fields["device_attempts"].items()},
            not_before=_time_in(fields["not_before"]),
            expires=_time_in(fields["expires"]),
            allow_downgrade=bool(policy["downgrade"]),
            from_versions=tuple(_text(v) for v in policy["from"]),
            **_rules_in(fields),
            is_security=fields.get("priority") == SECURITY,
        )
        bytes.fromhex(decision.salt)
    except MalformedDocument:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedDocument(f"the decision lacks or garbles a field: {error!r}") from error
    return decision


def encode_brake(brake: Brake) -> bytes:
    """Canonical JSON, as :func:`encode_decision`."""
    return _encode(
        {
            "_type": "wavegate-brake",
            "format": FORMAT,
            "org": brake.org,
            "product": brake.product,
            "channel": brake.channel,
            "group": brake.group,
            "rollout": brake.rollout,
            "plan_hash": brake.plan_hash,
            "wave": brake.wave,
            "revision": brake.revision,
            "state": brake.stance.value,
            "reason": brake.reason,
        }
    )


def decode_brake(document: bytes) -> Brake:
    """Read a brake; raises MalformedDocument naming what is wrong."""
    fields = _decode(document, "wavegate-brake", FORMAT)
    try:
        stance = Stance(fields["state"])
        if stance is Stance.OPEN:
            raise MalformedDocument("a brake cannot open anything")
        return Brake(
            org=_text(fields["org"]),
            product=_text(fields["product"]),
            channel=_text(fields["channel"]),
            group=_text(fields["group"]),
            rollout=_text(fields["rollout"]),
            plan_hash=_text(fields["plan_hash"]),
            wave=_number(fields["wave"], 1),
            revision=_number(fields["revision"], 1),
            stance=stance,
            reason=_text(fields["reason"]),
        )
    except MalformedDocument:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedDocument(f"the brake lacks or garbles a field: {error!r}") from error


def _rules_out(decision: Decision) -> dict[str, object]:
    """What came later than the first decisions: absent when it says nothing."""
    told: dict[str, object] = {}
    if decision.requires:
        told["requires"] = [{"product": one.product, "at_least": one.at_least} for one in decision.requires]
    if decision.spread_seconds:
        told["spread"] = {"from": _time_out(decision.spread_from), "seconds": decision.spread_seconds}
    if decision.retry is not None:
        told["retry"] = retry_to_dict(decision.retry)
    if decision.budget is not None:
        told["budget"] = budget_to_dict(decision.budget)
    return told


def _rules_in(fields: dict[str, Any]) -> dict[str, Any]:
    rules: dict[str, Any] = {
        "requires": tuple(
            Requirement(product=_text(one["product"]), at_least=_text(one["at_least"]))
            for one in fields.get("requires", ())
        )
    }
    if fields["window"] is not None:
        try:
            rules["window"] = window = window_from_dict(fields["window"])
        except InvalidWindow as error:
            raise MalformedDocument(f"the maintenance window cannot be read: {error}") from error
        faults = window_faults(window, local_is_known=True)
        if faults:
            raise MalformedDocument(f"the maintenance window cannot be honoured: {'; '.join(faults)}")
    if (spread := fields.get("spread")) is not None:
        rules["spread_from"] = _some(_time_in(spread["from"]))
        rules["spread_seconds"] = _number(spread["seconds"], 1)
    if (retry := fields.get("retry")) is not None:
        rules["retry"] = RetryPolicy(
            count=_number(retry["count"], 1),
            backoff_seconds=_number(retry["backoff_seconds"], 0),
            codes=tuple(_text(code) for code in retry["codes"]),
        )
    if (budget := fields.get("budget")) is not None:
        rules["budget"] = _budget_in(budget)
    return rules


def _budget_in(told: object) -> Budget:
    reader = Reader(told, "budget")
    budget = read_budget(reader)
    try:
        reader.finish()
    except InvalidPlan as error:
        raise MalformedDocument(f"the budget cannot be read: {error}") from error
    faults = budget_faults(budget)
    if faults:
        raise MalformedDocument(f"the budget cannot be honoured: {'; '.join(what for _, what in faults)}")
    return budget


def _encode(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _decode(document: bytes, kind: str, *formats: int) -> dict[str, Any]:
    if len(document) > MAX_DOCUMENT_LENGTH:
        raise MalformedDocument(f"the document has {len(document)} bytes, at most {MAX_DOCUMENT_LENGTH} are read")
    try:
        fields = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise MalformedDocument(f"the document is no JSON: {error}") from error
    if not isinstance(fields, dict) or fields.get("_type") != kind:
        raise MalformedDocument(f"expected a {kind} document")
    if fields.get("format") not in formats:
        raise MalformedDocument(f"format {fields.get('format')!r} is not known here, expected {max(formats)} at most")
    return fields


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise MalformedDocument(f"expected text, found {type(value).__name__}")
    return value


def _number(value: object, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise MalformedDocument(f"expected a whole number of at least {least}, found {value!r}")
    return value


def _some(value: datetime | None) -> datetime:
    if value is None:
        raise MalformedDocument("expected a time, found null")
    return value


def _time_out(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat().replace("+00:00", "Z")


def _time_in(value: object) -> datetime | None:
    if value is None:
        return None
    moment = datetime.fromisoformat(_text(value))
    if moment.tzinfo is None:
        raise MalformedDocument(f"the time {value!r} has no zone")
    return moment
