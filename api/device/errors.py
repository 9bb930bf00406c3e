"""Which gRPC status a device sees for which error; the only table of it.

The status message is ``<code>: <message>`` and the trailing metadata has ``wavegate-code``, so a program need not read
prose. What the table does not know becomes INTERNAL with an id that is in the log, never a stack trace.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import grpc

from api.installation import OrganisationUnavailable
from evidence.ids import new_id
from fleet import errors as fleet
from keys.errors import DeviceCaUnusable
from rollout import errors as rollout
from store.errors import DatabaseBusy, DatabaseUnreachable

_LOG: Final = logging.getLogger(__name__)


class DeviceCallRefused(Exception):
    """The call itself does not do, whatever it asks for.

    DeviceCallRefused
    ├── NotAuthenticated   no certificate of an active device
    ├── InvalidCall        a field outside its bounds
    └── TooManyStreams     long-lived calls are few
    """

    code = "call_refused"


class NotAuthenticated(DeviceCallRefused):
    code = "device_not_authenticated"


class InvalidCall(DeviceCallRefused):
    code = "invalid_call"


class TooManyStreams(DeviceCallRefused):
    code = "too_many_streams"


Status = grpc.StatusCode

STATUS: Final[dict[type[Exception], grpc.StatusCode]] = {
    NotAuthenticated: Status.UNAUTHENTICATED,
    InvalidCall: Status.INVALID_ARGUMENT,
    TooManyStreams: Status.RESOURCE_EXHAUSTED,
    fleet.UnknownDevice: Status.UNAUTHENTICATED,  # in a device's own call the unknown device is the caller
    fleet.DeviceRevoked: Status.UNAUTHENTICATED,
    fleet.DeviceExists: Status.ALREADY_EXISTS,
    fleet.UnknownGroup: Status.NOT_FOUND,
    fleet.GroupExists: Status.ALREADY_EXISTS,
    fleet.GroupInUse: Status.FAILED_PRECONDITION,
    fleet.GroupChanged: Status.ABORTED,
    fleet.WrongGroupKind: Status.FAILED_PRECONDITION,
    fleet.InvalidSelector: Status.INVALID_ARGUMENT,
    fleet.UnknownToken: Status.NOT_FOUND,
    fleet.EnrolmentRefused: Status.PERMISSION_DENIED,
    fleet.InvalidFleetInput: Status.INVALID_ARGUMENT,
    fleet.InvalidDeviceList: Status.INVALID_ARGUMENT,
    fleet.UnknownCommand: Status.NOT_FOUND,
    fleet.CommandOver: Status.FAILED_PRECONDITION,
    fleet.LogsNotHere: Status.NOT_FOUND,
    fleet.LogsDamaged: Status.DATA_LOSS,  # on its way: the device sends it again
    fleet.LogsTooLarge: Status.INVALID_ARGUMENT,
    fleet.LogQuotaReached: Status.RESOURCE_EXHAUSTED,  # somebody may delete some
    rollout.UnknownRollout: Status.NOT_FOUND,
    rollout.InvalidPlan: Status.INVALID_ARGUMENT,
    rollout.UnknownRelease: Status.NOT_FOUND,
    rollout.ReleaseBlocked: Status.FAILED_PRECONDITION,
    rollout.UnknownGroup: Status.NOT_FOUND,
    rollout.GroupBusy: Status.FAILED_PRECONDITION,
    rollout.TransitionNotAllowed: Status.FAILED_PRECONDITION,
    rollout.UnknownExclusion: Status.NOT_FOUND,
    rollout.InvalidExclusion: Status.INVALID_ARGUMENT,
    rollout.TooManyExclusions: Status.FAILED_PRECONDITION,
    rollout.UnknownFreeze: Status.NOT_FOUND,
    rollout.InvalidFreeze: Status.INVALID_ARGUMENT,
    rollout.UnknownTemplate: Status.NOT_FOUND,
    rollout.InvalidTemplate: Status.INVALID_ARGUMENT,
    rollout.ApprovalRefused: Status.PERMISSION_DENIED,
    rollout.PlanChanged: Status.FAILED_PRECONDITION,
    rollout.RolloutChanged: Status.ABORTED,
    rollout.SignaturesNeeded: Status.FAILED_PRECONDITION,
    rollout.ReportRefused: Status.FAILED_PRECONDITION,
    rollout.InvalidCommand: Status.INVALID_ARGUMENT,
    rollout.BrokenHistory: Status.DATA_LOSS,
    NotImplementedError: Status.UNIMPLEMENTED,  # what the health service's stub says of a method that it only names
    DeviceCaUnusable: Status.UNAVAILABLE,  # its store may be away; the device renews days before it must
    OrganisationUnavailable: Status.UNAVAILABLE,
    DatabaseBusy: Status.UNAVAILABLE,  # the device keeps its report and tries again
    DatabaseUnreachable: Status.UNAVAILABLE,
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the device is told: status, stable code, one line."""

    status: grpc.StatusCode
    code: str
    message: str


def refusal_of(error: Exception) -> Refusal:
    """Translate; an error outside the table is logged with an id, and the device is told only the id."""
    for kind in type(error).__mro__:
        status = STATUS.get(kind)
        if status is not None:
            code = str(getattr(error, "code", "refused"))
            return Refusal(status, code, f"{code}: {error}")
    incident = new_id("err")
    _LOG.error("device call failed, %s", incident, exc_info=error)
    return Refusal(Status.INTERNAL, "internal", f"internal: the server failed; its log has more under {incident}")
