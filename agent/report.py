"""What ``status`` and ``verify`` say to people and programs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from agent.config import AgentConfig
from agent.documents import decisions_for
from agent.errors import VerificationFailed
from agent.home import Home
from agent.identity import Credentials, Identity
from agent.state import LOGS, OrderHeld, OrderStage, Release, State
from agent.trust import View


def status_of(identity: Identity, credentials: Credentials, config: AgentConfig, state: State) -> dict[str, object]:
    """Everything ``status -o json`` prints; JSON values only."""
    return {
        "device_id": identity.device_id,
        "name": identity.name,
        "org": identity.org,
        "platform": config.platform,
        "device_endpoint": identity.device_endpoint,
        "metadata_url": identity.metadata_url,
        "certificate_not_after": credentials.certificate.not_valid_after_utc.isoformat().replace("+00:00", "Z"),
        "groups": list(state.groups),
        "products": list(config.products or state.products),
        "step": state.step.value,
        "running": {product: asdict(release) for product, release in state.running.items()},
        "why": dict(state.words),
        "reason": dict(state.reasons),
        "repository_trouble": state.repository_trouble,
        "server_trouble": state.server_trouble,
        "reports_waiting": len(state.outbox),
        "commands": [asdict(order) for order in state.orders],
        "refreshed_at": state.refreshed_at or None,
        "checked_in_at": state.checked_in_at or None,
    }


def status_in_words(
    identity: Identity, credentials: Credentials, config: AgentConfig, state: State, *, now: datetime
) -> list[str]:
    """The same for people: first what it does and why, then what stands in the way."""
    lines = [f"{identity.name} ({identity.device_id}) of {identity.org}, {config.platform}"]
    if state.work is None:
        lines.append("Doing nothing now." if state.words else "Doing nothing now: no poll has looked yet.")
    else:
        lines.append(
            f"{state.work.step.value.replace('_', ' ')} {state.work.release.product} {state.work.release.version}"
        )
    lines += [f"  {product}: {words}" for product, words in sorted(state.words.items())]
    if not state.groups:
        lines.append("It is in no group as far as it knows; an operator adds it: publish group add GROUP DEVICE")
    elif not (config.products or state.products or state.running):
        lines.append(f"No rollout has ever been meant for its groups: {', '.join(state.groups)}")
    else:
        lines.append(f"Groups: {', '.join(state.groups)}")
    if state.repository_trouble:
        lines.append(f"The signed repository could not be read: {state.repository_trouble}")
    if state.server_trouble:
        lines.append(f"The server could not be told: {state.server_trouble}")
    if state.outbox:
        lines.append(f"{len(state.outbox)} reports wait for the server.")
    lines += [_order_in_words(order) for order in state.orders]
    ends = credentials.certificate.not_valid_after_utc
    if now >= ends:
        lines.append(
            f"Its certificate expired at {ends:%Y-%m-%d %H:%M} UTC: unless the clock is wrong it must be enrolled "
            "again (wavegate-agent enroll --again). It goes on following signed releases for the groups that it knows."
        )
    lines.append(f"Checked in: {state.checked_in_at or 'never'}. Read the repository: {state.refreshed_at or 'never'}.")
    return lines


def _order_in_words(order: OrderHeld) -> str:
    if order.kind == LOGS:
        return f"Its logs are asked for ({order.id}), by {order.expires_at} at the latest."
    if order.stage is OrderStage.REBOOTING:
        since = datetime.fromisoformat(order.since)
        return f"It was told to reboot ({order.id}) and ran the reboot command at {since:%Y-%m-%d %H:%M} UTC."
    own = ", in its own maintenance window" if order.own_window else ""
    return f"A reboot is scheduled ({order.id}) from {order.not_before} to {order.expires_at}{own}."


def verify_file(
    file: Path, path: str | None, *, identity: Identity, config: AgentConfig, state: State, view: View
) -> tuple[str, str]:
    """Hold a file against the signed metadata; the target path it is, and its SHA-256.

    Without ``path`` the file is compared with what runs, what ran, and what the decisions for this device offer.

    Raises:
        VerificationFailed: It is none of these, or the metadata names other bytes. RepositoryAway, RepositoryRefused.
    """
    try:
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise VerificationFailed(f"{file} cannot be read: {error.strerror}") from error
    candidates = [path] if path is not None else _candidates(identity, config, state, view, found)
    for candidate in candidates:
        target = view.target(candidate)
        if target is None:
            continue
        if (target.length, target.hashes.get("sha256")) == (file.stat().st_size, found):
            return candidate, found
    named = f"as {path}" if path is not None else "as anything this device runs, ran or is offered; give --path"
    raise VerificationFailed(f"{file} (SHA-256 {found}) is not what the signed metadata names {named}")


def verify_running(home: Home, *, identity: Identity, config: AgentConfig, state: State, view: View) -> list[Release]:
    """Hold the stored file of everything that runs against the signed metadata.

    Raises VerificationFailed for the first that does not fit, RepositoryAway, RepositoryRefused.
    """
    for release in state.running.values():
        file = home.artifact(release.sha256)
        verify_file(file, release.path, identity=identity, config=config, state=state, view=view)
    return list(state.running.values())


def _candidates(identity: Identity, config: AgentConfig, state: State, view: View, sha256: str) -> Sequence[str]:
    known = [r.path for r in (*state.running.values(), *state.previous.values()) if r.sha256 == sha256]
    for product in dict.fromkeys([*(config.products or state.products), *state.running]):
        for decision in decisions_for(view, identity.org, product, state.groups):
            known += [a.path for a in decision.artifacts.values() if a.sha256 == sha256]
    return list(dict.fromkeys(known))
