"""What an obeyed command changes.

Each effect gets the rollout with its revision already counted up and its state already set to the arrow's first
target; it sets another of the arrow's targets only where the table names two.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from rollout.commands import (
    Abort,
    Approve,
    Command,
    Edit,
    FailWave,
    OpenWave,
    PassWave,
    Pause,
    Refuse,
    Resume,
    Retry,
    RetryLater,
    RollBack,
    Supersede,
)
from rollout.guards import has_opened
from rollout.model import Approval, Refusal, Rollout, State, Wave, WaveState


def submit(rollout: Rollout, command: Command, now: datetime) -> Rollout:  # noqa: ARG001
    """The first wave's gate is awaited."""
    return replace(rollout, wave=1, submitted_at=now)


def edit(rollout: Rollout, command: Edit, now: datetime) -> Rollout:  # noqa: ARG001
    """Refusals stay: they are bound to the hash of the plan they were said to."""
    editors = rollout.editors
    if command.by.id not in {rollout.created_by.id, *(editor.id for editor in editors)}:
        editors = (*editors, command.by)
    return replace(
        _back_to_draft(rollout),
        plan=command.plan,
        plan_hash=command.plan.hash(),
        waves=tuple(Wave() for _ in command.plan.waves),
        editors=editors,
    )


def approve(rollout: Rollout, command: Approve, now: datetime) -> Rollout:
    """One more yes; a person who signs anew, because what was to be signed has moved, takes the place of their own."""
    others = tuple(one for one in rollout.approvals if (one.by.id, one.wave) != (command.by.id, command.wave))
    yes = Approval(wave=command.wave, by=command.by, at=now, plan_hash=command.plan_hash, signature=command.signature)
    return replace(rollout, approvals=(*others, yes))


def refuse(rollout: Rollout, command: Refuse, now: datetime) -> Rollout:
    """Back to draft; once devices act on an opened wave there is no way back, so it pauses for an approver."""
    no = Refusal(by=command.by, at=now, plan_hash=rollout.plan_hash, reason=command.reason)
    rollout = replace(rollout, refusals=(*rollout.refusals, no))
    if not has_opened(rollout):
        return _back_to_draft(rollout)
    paused = replace(rollout, state=State.PAUSED, pause_needs_approver=True)
    return _brake(paused, State.WAITING, f"{command.by.name} refused: {command.reason}")


def open_wave(rollout: Rollout, command: OpenWave, now: datetime) -> Rollout:
    """From here on the wave's devices are offered the release."""
    opened = replace(
        rollout.waves[command.wave - 1],
        state=WaveState.OPEN,
        opened_at=now,
        opened_revision=rollout.revision,
        signed=command.signed,
        reach=command.reach,
    )
    return _with_wave(rollout, command.wave, opened)


def pass_wave(rollout: Rollout, command: PassWave, now: datetime) -> Rollout:
    """On to the next wave's gate, or completed after the last."""
    passed = replace(rollout.waves[command.wave - 1], state=WaveState.PASSED, ended_at=now, note=command.verdict.reason)
    rollout = _with_wave(rollout, command.wave, passed)
    if command.wave < len(rollout.waves):
        return replace(rollout, wave=command.wave + 1)
    braked = rollout.braked_revision if rollout.plan.keep_open else rollout.revision
    return replace(
        rollout, state=State.COMPLETED, ended_at=now, braked_revision=braked, retry_at=None, retry_devices=()
    )


def fail_wave(rollout: Rollout, command: FailWave, now: datetime) -> Rollout:  # noqa: ARG001
    """Paused until an approver has looked."""
    wave = rollout.waves[rollout.wave - 1]
    wave = replace(wave, silence_judged=max(wave.silence_judged, command.silent))
    rollout = _with_wave(rollout, rollout.wave, wave)
    return replace(_brake(rollout, State.RUNNING, command.cause), pause_needs_approver=True)


def pause_waiting(rollout: Rollout, command: Pause, now: datetime) -> Rollout:  # noqa: ARG001
    """Remembers that a gate was awaited."""
    return _brake(rollout, State.WAITING, command.reason)


def pause_running(rollout: Rollout, command: Pause, now: datetime) -> Rollout:  # noqa: ARG001
    """Remembers that a wave was open."""
    return _brake(rollout, State.RUNNING, command.reason)


def resume(rollout: Rollout, command: Resume, now: datetime) -> Rollout:
    """Back where it was; an open wave soaks anew and is judged by what comes after."""
    back = rollout.paused_from
    rollout = replace(
        rollout, state=back or State.WAITING, paused_from=None, paused_because=None, pause_needs_approver=False
    )
    if back is not State.RUNNING:
        return rollout
    wave = replace(rollout.waves[rollout.wave - 1], judged_from=command.counters, resumed_at=now)
    return _with_wave(rollout, rollout.wave, wave)


def retry(rollout: Rollout, command: Retry, now: datetime) -> Rollout:  # noqa: ARG001
    """Attempts only grow; retrying all goes above every attempt named devices have had, or made by themselves."""
    rollout = replace(rollout, retried_revision=rollout.revision, retry_at=None, retry_devices=())
    if not command.devices:
        highest = max((rollout.attempt, *rollout.device_attempts.values()))
        return replace(rollout, attempt=highest + rollout.plan.tries, device_attempts={})
    again = {device: rollout.attempt_for(device) + rollout.plan.tries for device in command.devices}
    return replace(rollout, device_attempts={**rollout.device_attempts, **again})


def retry_later(rollout: Rollout, command: RetryLater, now: datetime) -> Rollout:  # noqa: ARG001
    """Nothing is offered yet; the scheduler will."""
    return replace(rollout, retry_at=command.at, retry_devices=command.devices)


def abort(rollout: Rollout, command: Abort, now: datetime) -> Rollout:
    """The end, with a reason and what devices are to do."""
    return replace(_stopped(rollout, now), abort_mode=command.mode, abort_reason=command.reason)


def roll_back(rollout: Rollout, command: RollBack, now: datetime) -> Rollout:  # noqa: ARG001
    """The end stays the end it was; a brake beside the decisions calls devices back."""
    return replace(rollout, rolled_back_because=command.reason, braked_revision=rollout.revision)


def supersede(rollout: Rollout, command: Supersede, now: datetime) -> Rollout:
    """The end; a newer rollout has the devices."""
    return replace(_stopped(rollout, now), superseded_by=command.rollout)


def _back_to_draft(rollout: Rollout) -> Rollout:
    return replace(rollout, wave=0, approvals=(), submitted_at=None)


def _brake(rollout: Rollout, back_to: State, because: str) -> Rollout:
    return replace(
        rollout,
        paused_from=back_to,
        paused_because=because,
        braked_revision=rollout.revision,
    )


def _stopped(rollout: Rollout, now: datetime) -> Rollout:
    unfinished = {WaveState.PENDING, WaveState.OPEN}
    return replace(
        rollout,
        waves=tuple(
            replace(wave, state=WaveState.STOPPED, ended_at=now) if wave.state in unfinished else wave
            for wave in rollout.waves
        ),
        ended_at=now,
        paused_from=None,
        paused_because=None,
        pause_needs_approver=False,
        braked_revision=rollout.revision,
        retry_at=None,
        retry_devices=(),
    )


def _with_wave(rollout: Rollout, number: int, wave: Wave) -> Rollout:
    return replace(rollout, waves=(*rollout.waves[: number - 1], wave, *rollout.waves[number:]))
