"""What an approver signs, worked out on his own machine from the bytes themselves.

The server's word counts for nothing here but for the plan that the approver has read: a payload is signed only when
every byte of it is explained by that plan or by decisions that are shown.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from dataclasses import fields as fields_of
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from cli.errors import NotApproved, UsageFault, VerificationFailed
from cli.text import fields, moment, size, styled, visible
from cli.words import budget, span

if TYPE_CHECKING:
    from cli.client import Client
    from rollout.decision import Decision
    from rollout.model import Plan, WavePlan

LONGEST_LIFE: Final = timedelta(days=91)  # the role lives 90 days; a day for clocks
_BODY: Final = frozenset({"_type", "expires", "spec_version", "targets", "version"})
_SHOWN_DEVICES: Final = 20
# What of a decision is held against the plan or has words of its own below. One with any other is not signed.
EXPLAINED: Final = frozenset(
    {
        *("org", "product", "channel", "group", "rollout", "plan_hash", "wave", "revision", "submitted_at", "version"),
        *("artifacts", "salt", "cohort_from", "cohort_to", "attempt", "device_attempts", "not_before", "expires"),
        *("allow_downgrade", "from_versions", "requires", "window", "spread_from", "spread_seconds", "retry"),
        *("is_security", "budget"),
    }
)

Lines = list[tuple[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One wave: the exact bytes to sign, and in words what they mean."""

    wave: int
    payload: bytes
    lines: Lines


def sign_waves(
    client: Client, told: Mapping[str, Any], waves: range, key: str, passphrase: str | None, *, ask: bool
) -> dict[str, Any]:
    """Show what an approver's key would sign, ask at a terminal, sign, and hand the signatures in.

    Args:
        client: Logged in as the approver.
        told: The rollout as the approver was shown it.
        waves: Numbers of the waves of a schedule, without a gap.
        key: URI of the private key.
        passphrase: Opens a sealed one.
        ask: Whether to ask.

    Returns:
        The rollout after it.

    Raises:
        VerificationFailed: What the server asks for cannot be explained; nothing was signed.
        NotApproved: The person said no.
        UsageFault: There are no waves, or the key is no approver's.
    """
    from cli.client import segment
    from cli.signing import matching

    if not waves:
        raise UsageFault(f"--through names the last wave of the schedule, not before wave {waves.start}")
    path = f"/rollouts/{segment(told['id'])}"
    asked = client.get(f"{path}/waves/{waves.start}/decision", through=waves.stop - 1)
    explained = explain(asked, told, wave=waves.start, through=waves.stop - 1, now=datetime.now(UTC))
    for one in explained:
        click.echo(f"\n{fields(one.lines)}", err=True)
    click.echo(f"\n{asked['threshold']} of {len(asked['keys'])} approvers must sign", err=True)
    if ask and sys.stdin.isatty() and not click.confirm("Sign this?", err=True):
        raise NotApproved("nothing was signed")
    keyid, signer = matching({"keys": asked["keys"], "parts": asked["waves"]}, key, passphrase)
    signed = {str(one.wave): signer.sign(one.payload).signature for one in explained}
    signature = {"keyid": keyid, "waves": signed}
    after: dict[str, Any] = client.post(
        f"{path}/approve", {"wave": waves.start, "plan_hash": told["plan_hash"], "signature": signature}
    )
    return after


def explain(
    asked: Mapping[str, Any], told: Mapping[str, Any], *, wave: int, through: int, now: datetime
) -> list[Explained]:
    """Read what the server asks to be signed, and hold it against the plan.

    Steps: (1) it is about this rollout, plan and schedule, and the plan has the hash that is approved; (2) what is
    served now is what approvers signed; of each wave (3) the payload is a version of the product's role and holds
    nothing but targets; (4) every target is a decision that is at hand and of the form known here; (5) one decision
    changes, that of the wave's group; (6) it says what the plan says, in every field; (7) later waves of a schedule
    have a time of their own.

    Args:
        asked: Answer of ``GET /rollouts/{id}/waves/{n}/decision``.
        told: The rollout as the approver was shown it.
        wave: The first that is to be signed.
        through: The last.
        now: Of this machine.

    Raises:
        VerificationFailed: Something in it cannot be explained; nothing is to be signed.
    """
    try:
        return _explained(asked, told, wave, through, now)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        _refuse(f"it is garbled: {error!r}")


def _explained(
    asked: Mapping[str, Any], told: Mapping[str, Any], wave: int, through: int, now: datetime
) -> list[Explained]:
    product = told["product"]
    role = f"waves-{product}"
    for name, found, wanted in (
        ("rollout", asked["rollout"], told["id"]),
        ("product", asked["product"], product),
        ("plan", asked["plan_hash"], told["plan_hash"]),
        ("role", asked["role"], role),
        ("schedule", [one["wave"] for one in asked["waves"]], list(range(wave, through + 1))),
    ):
        if found != wanted:  # (1)
            _refuse(f"its {name} is {found!r}, you were shown {wanted!r}")
    plan = _plan(told)
    before = _served(asked, role)  # (2)
    version = before["version"]
    explained: list[Explained] = []
    for one in asked["waves"]:
        payload = base64.b64decode(one["payload"], validate=True)
        body = _role_body(payload, one, role, version, now)  # (3)
        decisions = _decisions(body["targets"], asked["decisions"], product)  # (4)
        changed = {
            path
            for path in before["targets"].keys() | body["targets"].keys()
            if before["targets"].get(path) != body["targets"].get(path)
        }
        planned = plan.waves[one["wave"] - 1]
        path = f"decisions/{product}/{planned.group}.json"
        if changed != {path} or path not in decisions:  # (5)
            strange = ", ".join(sorted(changed ^ {path})) or path
            _refuse(f"wave {one['wave']} is for {planned.group}, and other decisions would change: {strange}")
        decision = decisions[path]
        standing = _decisions(before["targets"], asked["decisions"], product)
        _check_plan(decision, standing.get(path), told, plan, one["wave"])  # (6)
        if {d.salt for d in (*standing.values(), *decisions.values()) if d.rollout == told["id"]} != {decision.salt}:
            _refuse("the decisions of this rollout choose devices by different salts")
        earlier = None if not explained else plan.waves[one["wave"] - 2].gate.not_before
        if explained and (decision.not_before is None or (earlier and decision.not_before < earlier)):  # (7)
            _refuse(f"wave {one['wave']} of the schedule has no later time of its own: nothing would hold it back")
        lines = _words(decision, standing.get(path), plan, body)
        lines += [("stays", _short(d)) for other, d in sorted(decisions.items()) if other != path]
        explained.append(Explained(wave=one["wave"], payload=payload, lines=lines))
        before, version = body, body["version"]
    return explained


def _served(asked: Mapping[str, Any], role: str) -> dict[str, Any]:
    from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
    from securesystemslib.signer import Key, Signature

    from repo_signing.canonical import encode

    envelope = json.loads(base64.b64decode(asked["served"]["file"], validate=True))
    body: dict[str, Any] = envelope["signed"]
    payload, signed = encode(body), set()
    for one in envelope["signatures"]:
        if one["keyid"] in asked["keys"]:
            try:
                key = Key.from_dict(one["keyid"], {**asked["keys"][one["keyid"]]})
                key.verify_signature(Signature(one["keyid"], one["sig"]), payload)
                signed.add(one["keyid"])
            except (UnverifiedSignatureError, VerificationError):
                continue
    if len(signed) < max(int(asked["threshold"]), 1) or body["version"] != asked["served"]["version"]:
        _refuse(f"what is said to be served of {role} is not signed by its approvers")
    return body


def _role_body(payload: bytes, one: Mapping[str, Any], role: str, version: int, now: datetime) -> dict[str, Any]:
    from repo_signing import roles
    from repo_signing.canonical import encode

    body: dict[str, Any] = json.loads(payload)
    # Encoded anew, for a name that stands twice would be read by one client so and by another otherwise.
    if hashlib.sha256(payload).hexdigest() != one["payload_sha256"] or encode(body) != payload:
        _refuse("the bytes to sign are not those that are named, or not in canonical form")
    if body.keys() != _BODY or body["_type"] != "targets":
        _refuse(f"{role} would be more than a list of decisions: {', '.join(sorted(body.keys() ^ _BODY))}")
    if one["base_version"] != version or body["version"] != one["version"] or body["version"] <= version:
        _refuse(f"version {body['version']} of {role} does not follow from version {version}")
    expires = roles.time_in(body["expires"])
    if not now < expires <= now + LONGEST_LIFE:
        _refuse(f"{role} would be valid until {body['expires']}, at most 90 days are signed; check this clock, too")
    return body


def _decisions(targets: Mapping[str, Any], documents: Mapping[str, str], product: str) -> dict[str, Decision]:
    from rollout.decision import MalformedDocument, decision_path, decode_decision, encode_decision

    found: dict[str, Decision] = {}
    for path, entry in targets.items():
        if entry.keys() != {"length", "hashes"} or entry["hashes"].keys() != {"sha256"}:
            _refuse(f"{path} is named with more than length and SHA-256")
        document = documents.get(entry["hashes"]["sha256"], "").encode()
        digest = hashlib.sha256(document).hexdigest()
        if digest != entry["hashes"]["sha256"] or len(document) != entry["length"]:
            _refuse(f"{path} is to be signed, or to be replaced, and its bytes are not shown")
        try:
            decision = decode_decision(document)
        except MalformedDocument as error:
            _refuse(f"{path} is no decision that this program knows: {error}")
        if encode_decision(decision) != document:
            _refuse(f"{path} says more than this program can read; bring it up to the server's version")
        if decision.product != product or decision_path(product, decision.group) != path:
            _refuse(f"{path} holds a decision of {decision.product} for {decision.group}")
        found[path] = decision
    if len({decision.org for decision in found.values()}) > 1:
        _refuse("the decisions are of different organisations")
    return found


def _plan(told: Mapping[str, Any]) -> Plan:
    from rollout.errors import InvalidPlan
    from rollout.plan import plan_from_dict

    try:
        plan = plan_from_dict(told["plan"])
    except InvalidPlan as error:
        _refuse(f"the plan says more than this program can read, bring it up to the server's version: {error}")
    if plan.hash() != told["plan_hash"]:
        _refuse(f"the plan that you were shown has the hash {plan.hash()}, not {told['plan_hash']!r}")
    return plan


def _check_plan(
    decision: Decision, standing: Decision | None, told: Mapping[str, Any], plan: Plan, number: int
) -> None:
    planned = plan.waves[number - 1]
    not_before = planned.gate.not_before
    spread_from = not_before if plan.spread_seconds else None
    artifacts = {
        platform: {"path": one.path, "length": one.length, "sha256": one.sha256}
        for platform, one in decision.artifacts.items()
    }
    wanted = {
        platform: {"path": one.path, "length": one.length, "sha256": one.sha256}
        for platform, one in plan.artifacts.items()
    }
    for name, found, expected in (
        ("rollout", decision.rollout, told["id"]),
        ("plan", decision.plan_hash, told["plan_hash"]),
        ("wave", decision.wave, number),
        ("revision", decision.revision, number),
        ("channel", decision.channel, plan.channel),
        ("version", decision.version, plan.version),
        ("artifacts", artifacts, wanted),
        ("share of the group", (decision.cohort_from, decision.cohort_to), (0, _reach(decision, standing, planned))),
        ("not_before", decision.not_before, not_before),
        ("word on downgrades", decision.allow_downgrade, plan.allow_downgrade),
        ("versions to come from", decision.from_versions, plan.from_versions),
        ("requirements", decision.requires, plan.requires),
        ("maintenance window", decision.window, plan.window),
        ("spread", (decision.spread_from, decision.spread_seconds), (spread_from, plan.spread_seconds)),
        ("retry policy", decision.retry, plan.retry),
        ("budget", decision.budget, plan.budget),
        ("priority", "security" if decision.is_security else "normal", plan.priority),
        ("attempt", decision.attempt, told["attempt"]),
        ("time of submission", decision.submitted_at, datetime.fromisoformat(told["submitted_at"])),
    ):
        if found != expected:
            _refuse(f"the {name} of wave {number} would be {found!r}, the plan that you read says {expected!r}")
    for one in fields_of(decision):
        if one.name not in EXPLAINED and getattr(decision, one.name) != one.default:
            _refuse(f"wave {number} says {one.name}, which this program cannot hold against the plan")


def _reach(decision: Decision, standing: Decision | None, planned: WavePlan) -> int:
    """Where the cohort has to end. Cohorts only grow; how many devices a count is, only the group's size tells."""
    from rollout.cohort import reach
    from rollout.model import BUCKETS

    least = standing.cohort_to if standing is not None and standing.rollout == decision.rollout else 0
    if planned.count is None:
        return max(least, reach(planned.percent))
    return min(max(least, decision.cohort_to), BUCKETS)


def _words(decision: Decision, known: Decision | None, plan: Plan, body: Mapping[str, Any]) -> Lines:
    lines: Lines = [
        ("you sign", f"wave {decision.wave} of {len(plan.waves)} of {decision.rollout}"),
        ("as", f"version {body['version']} of waves-{decision.product}, valid until {body['expires']}"),
        ("devices", _who(decision)),
    ]
    count = plan.waves[decision.wave - 1].count
    if count is not None:
        group = round(count * 10_000 / max(decision.cohort_to, 1))
        lines.append(("by count", f"{count} devices, if the group has about {group}; of a larger group it is more"))
    lines.append(("would receive", f"{decision.product} {decision.version} ({decision.channel})"))
    for platform, artifact in decision.artifacts.items():
        lines += [
            (f"  on {visible(platform)}", f"{artifact.path}, {size(artifact.length)}"),
            ("  sha256", artifact.sha256),
        ]
    when = "at once, when the server opens the wave"
    lines.append(("not before", when if decision.not_before is None else moment(decision.not_before.isoformat())))
    if decision.expires is not None:
        lines.append(("until", moment(decision.expires.isoformat())))
    if decision.allow_downgrade:
        lines.append(("downgrade", styled("devices on a higher version may go back to this one", fg="red")))
    if decision.is_security:
        lines.append(("priority", styled("security: it goes before normal rollouts, also newer ones", fg="red")))
    if decision.from_versions:
        lines.append(("only from", visible(" or ".join(decision.from_versions))))
    lines += [("only beside", visible(f"{one.product} {one.at_least} or later")) for one in decision.requires]
    if decision.window is not None:
        lines.append(("installs", f"begin only {visible(decision.window.words())}"))
    if decision.spread_seconds:
        lines.append(("spread", f"each device at its own moment within {span(decision.spread_seconds)} of not before"))
    if decision.retry is not None:
        codes = f" with {visible(' or '.join(decision.retry.codes))}" if decision.retry.codes else ""
        pause = f"first after {span(decision.retry.backoff_seconds)}, then twice as long each time"
        lines.append(("retries", f"up to {decision.retry.count} more after a failure{codes}, {pause}"))
    if decision.budget is not None:
        lines.append(("budget", f"{visible(budget(asdict(decision.budget)))}; the server counts"))
    if decision.attempt > 1:
        lines.append(("attempt", f"{decision.attempt}: devices that failed an earlier one try again"))
    if decision.device_attempts:
        more = len(decision.device_attempts) - _SHOWN_DEVICES
        named = ", ".join([*decision.device_attempts][:_SHOWN_DEVICES]) + (f" and {more} more" if more > 0 else "")
        lines.append(("try again", named))
    lines += [("not signed", f"that it waits for {visible(one)}: the server keeps that") for one in plan.after]
    if decision.wave > 1 and plan.waves[decision.wave - 2].gate.advance == "manual":
        lines.append(("not signed", "that it waits for an operator's word: the server keeps that"))
    if plan.waves[decision.wave - 1].gate.metrics:
        lines.append(("not signed", "what is measured before it passes: the server keeps that"))
    lines.append(("instead of", "nothing: no decision stands for this group" if known is None else _short(known)))
    if known is not None and known.rollout == decision.rollout:
        lines.append(("difference", _difference(known, decision)))
    return lines


def _difference(known: Decision, decision: Decision) -> str:
    said = []
    if known.cohort_to != decision.cohort_to:
        said.append(f"{known.cohort_to / 100:g}% of the group become {decision.cohort_to / 100:g}%")
    if known.artifacts != decision.artifacts:
        said.append("OTHER BYTES")
    if (known.attempt, known.device_attempts) != (decision.attempt, decision.device_attempts):
        said.append("failed devices try again")
    return "; ".join(said) or "only the wave's number"


def _who(decision: Decision) -> str:
    share = (decision.cohort_to - decision.cohort_from) / 100
    return f"{share:g}% of group {decision.group} (places {decision.cohort_from} to {decision.cohort_to - 1} of 10000)"


def _short(decision: Decision) -> str:
    digests = ", ".join(sorted(one.sha256[:16] for one in decision.artifacts.values()))
    return (
        f"{decision.product} {decision.version} to {_who(decision)}: {decision.rollout} wave {decision.wave}, {digests}"
    )


def _refuse(why: str) -> NoReturn:
    raise VerificationFailed(
        f"this cannot be explained, so nothing was signed: {visible(why)}",
        hint="look at the rollout again; if it stays so, talk to whoever runs the server",
    )
