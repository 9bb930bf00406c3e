"""What can be wrong with a device, a group or a token.

FleetError
├── UnknownDevice       no such device in this organisation
├── DeviceExists        the name is taken
├── DeviceRevoked       its credentials do not count any more
├── UnknownGroup        no such group
├── GroupExists         the name is taken
├── GroupInUse          a rollout that is not over, a token or a selector names it
├── GroupChanged        somebody else edited it in between
├── WrongGroupKind      a device put into a selector's group by hand, or a selector given to a static group
├── UnknownToken        no such enrolment token
├── EnrolmentRefused    the token is unknown, expired or used up
├── InvalidSelector     a selector outside the grammar
├── UnknownCommand      no such log bundle or reboot
├── CommandOver         it has ended, or the device has begun with it
├── LogsNotHere         the bundle has not come, or is not kept any more
├── LogsDamaged         other bytes came than the device says it sent
├── LogsTooLarge        a bundle has more bytes than the server takes
├── LogQuotaReached     the bundles of the organisation fill what it may keep
├── InvalidFleetInput   a name or label outside the grammar
└── InvalidDeviceList   a CSV of devices whose lines do not do; nothing of it was imported
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class FleetError(Exception):
    """Root of the room's errors; ``code`` is stable."""

    code: ClassVar[str] = "fleet_error"


class UnknownDevice(FleetError):
    code = "device_not_found"


class DeviceExists(FleetError):
    code = "device_exists"


class DeviceRevoked(FleetError):
    code = "device_revoked"


class UnknownGroup(FleetError):
    code = "group_not_found"


class GroupExists(FleetError):
    code = "group_exists"


class GroupInUse(FleetError):
    code = "group_in_use"


class GroupChanged(FleetError):
    code = "group_changed"


class WrongGroupKind(FleetError):
    code = "wrong_group_kind"


class UnknownToken(FleetError):
    code = "enroll_token_not_found"


class EnrolmentRefused(FleetError):
    code = "enrolment_refused"


class InvalidSelector(FleetError):
    code = "invalid_selector"


class UnknownCommand(FleetError):
    code = "command_not_found"


class CommandOver(FleetError):
    code = "command_over"


class LogsNotHere(FleetError):
    code = "logs_not_here"


class LogsDamaged(FleetError):
    code = "logs_damaged"


class LogsTooLarge(FleetError):
    code = "logs_too_large"


class LogQuotaReached(FleetError):
    code = "log_quota_reached"


class InvalidFleetInput(FleetError):
    code = "invalid_fleet_input"


class InvalidDeviceList(FleetError):
    """``details`` are places ("line 3, labels") and what is wrong there, at most ``most`` of those ``found``."""

    code = "invalid_device_list"

    def __init__(self, found: Sequence[tuple[str, str]], *, most: int) -> None:
        where, message = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        super().__init__(f"{where}: {message}{more}; nothing was imported")
        self.details = list(found[:most])
