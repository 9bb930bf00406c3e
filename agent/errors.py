"""What can go wrong on a device.

AgentError
├── NotEnrolled            the home has no identity
├── AlreadyEnrolled        it has one
├── EnrolmentFailed        the server refused or garbled the enrolment
│   ├── EnrolmentBusy      it has too many of them just now
│   └── EnrolmentUnanswered  nobody answered, or the answer got lost
├── UntrustedRoot          the root handed over is not the one the token or the person named
├── BadConfig              agent.toml or an option is not usable
├── HomeInUse              another agent runs in this home
├── StateUnreadable        state.json or the identity is damaged
├── ServerAway             nobody answers; try later
├── NotRecognised          the server does not know this device any more (revoked, deleted, expired)
├── CallRefused            the server understood and refused; sending it again is no use
├── RepositoryAway         metadata or files cannot be fetched now
├── RepositoryRefused      what was fetched does not verify
├── NoRoom                 the disk has no room for what is to be fetched
├── DownloadStopped        what is being downloaded is not wanted any more
└── VerificationFailed     a file is not what the signed metadata names
"""

from __future__ import annotations

from typing import ClassVar

from agent.reason import Reason


class AgentError(Exception):
    """Root of the room's errors; ``code`` is stable, ``exit_code`` what the command ends with."""

    code: ClassVar[str] = "agent_error"
    exit_code: ClassVar[int] = 1


class NotEnrolled(AgentError):
    code = "not_enrolled"
    exit_code = 3


class AlreadyEnrolled(AgentError):
    code = "already_enrolled"
    exit_code = 5


class EnrolmentFailed(AgentError):
    code = "enrolment_failed"


class EnrolmentBusy(EnrolmentFailed):
    """``again_seconds`` is when the server wants to be asked again."""

    code = "enrolment_busy"

    def __init__(self, words: str, again_seconds: float) -> None:
        super().__init__(words)
        self.again_seconds = again_seconds


class EnrolmentUnanswered(EnrolmentFailed):
    code = "enrolment_unanswered"


class UntrustedRoot(AgentError):
    code = "untrusted_root"
    exit_code = 8


class BadConfig(AgentError):
    code = "bad_config"
    exit_code = 2


class HomeInUse(AgentError):
    code = "home_in_use"
    exit_code = 5


class StateUnreadable(AgentError):
    code = "state_unreadable"


class ServerAway(AgentError):
    code = "server_away"


class NotRecognised(AgentError):
    code = "not_recognised"
    exit_code = 3


class CallRefused(AgentError):
    code = "call_refused"


class RepositoryAway(AgentError):
    code = "repository_away"


class RepositoryRefused(AgentError):
    code = "repository_refused"
    exit_code = 8


class NoRoom(AgentError):
    code = "no_room"


class DownloadStopped(AgentError):
    code = "download_stopped"

    def __init__(self, words: str, reason: Reason) -> None:
        super().__init__(words)
        self.reason = reason


class VerificationFailed(AgentError):
    code = "verification_failed"
    exit_code = 8
