from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CommandKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMMAND_KIND_UNSPECIFIED: _ClassVar[CommandKind]
    COMMAND_KIND_LOGS: _ClassVar[CommandKind]
    COMMAND_KIND_REBOOT: _ClassVar[CommandKind]

class Progress(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROGRESS_UNSPECIFIED: _ClassVar[Progress]
    PROGRESS_DOWNLOADING: _ClassVar[Progress]
    PROGRESS_INSTALLING: _ClassVar[Progress]
    PROGRESS_SUCCEEDED: _ClassVar[Progress]
    PROGRESS_FAILED: _ClassVar[Progress]
    PROGRESS_ROLLED_BACK: _ClassVar[Progress]
COMMAND_KIND_UNSPECIFIED: CommandKind
COMMAND_KIND_LOGS: CommandKind
COMMAND_KIND_REBOOT: CommandKind
PROGRESS_UNSPECIFIED: Progress
PROGRESS_DOWNLOADING: Progress
PROGRESS_INSTALLING: Progress
PROGRESS_SUCCEEDED: Progress
PROGRESS_FAILED: Progress
PROGRESS_ROLLED_BACK: Progress

class Running(_message.Message):
    __slots__ = ("product", "version", "path", "sha256", "rollout_id")
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_ID_FIELD_NUMBER: _ClassVar[int]
    product: str
    version: str
    path: str
    sha256: str
    rollout_id: str
    def __init__(self, product: _Optional[str] = ..., version: _Optional[str] = ..., path: _Optional[str] = ..., sha256: _Optional[str] = ..., rollout_id: _Optional[str] = ...) -> None: ...

class CheckInRequest(_message.Message):
    __slots__ = ("agent_version", "hostname", "os_family", "os_name", "platform", "running", "state", "reboot_pending", "held_commands", "command_results")
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    OS_FAMILY_FIELD_NUMBER: _ClassVar[int]
    OS_NAME_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REBOOT_PENDING_FIELD_NUMBER: _ClassVar[int]
    HELD_COMMANDS_FIELD_NUMBER: _ClassVar[int]
    COMMAND_RESULTS_FIELD_NUMBER: _ClassVar[int]
    agent_version: str
    hostname: str
    os_family: str
    os_name: str
    platform: str
    running: _containers.RepeatedCompositeFieldContainer[Running]
    state: str
    reboot_pending: str
    held_commands: _containers.RepeatedScalarFieldContainer[str]
    command_results: _containers.RepeatedCompositeFieldContainer[CommandResult]
    def __init__(self, agent_version: _Optional[str] = ..., hostname: _Optional[str] = ..., os_family: _Optional[str] = ..., os_name: _Optional[str] = ..., platform: _Optional[str] = ..., running: _Optional[_Iterable[_Union[Running, _Mapping]]] = ..., state: _Optional[str] = ..., reboot_pending: _Optional[str] = ..., held_commands: _Optional[_Iterable[str]] = ..., command_results: _Optional[_Iterable[_Union[CommandResult, _Mapping]]] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("id", "kind", "not_before", "expires_at", "own_window", "max_bytes")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    OWN_WINDOW_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: CommandKind
    not_before: str
    expires_at: str
    own_window: bool
    max_bytes: int
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[_Union[CommandKind, str]] = ..., not_before: _Optional[str] = ..., expires_at: _Optional[str] = ..., own_window: _Optional[bool] = ..., max_bytes: _Optional[int] = ...) -> None: ...

class CommandResult(_message.Message):
    __slots__ = ("id", "done", "code", "detail", "boot_id")
    ID_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    done: bool
    code: str
    detail: str
    boot_id: str
    def __init__(self, id: _Optional[str] = ..., done: _Optional[bool] = ..., code: _Optional[str] = ..., detail: _Optional[str] = ..., boot_id: _Optional[str] = ...) -> None: ...

class CheckInResponse(_message.Message):
    __slots__ = ("device_id", "device_name", "groups", "products", "next_check_in_seconds", "commands", "dropped_commands")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_NAME_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    PRODUCTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_CHECK_IN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_COMMANDS_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    device_name: str
    groups: _containers.RepeatedScalarFieldContainer[str]
    products: _containers.RepeatedScalarFieldContainer[str]
    next_check_in_seconds: int
    commands: _containers.RepeatedCompositeFieldContainer[Command]
    dropped_commands: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, device_id: _Optional[str] = ..., device_name: _Optional[str] = ..., groups: _Optional[_Iterable[str]] = ..., products: _Optional[_Iterable[str]] = ..., next_check_in_seconds: _Optional[int] = ..., commands: _Optional[_Iterable[_Union[Command, _Mapping]]] = ..., dropped_commands: _Optional[_Iterable[str]] = ...) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("report_id", "rollout_id", "attempt", "progress", "code", "detail")
    REPORT_ID_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    report_id: str
    rollout_id: str
    attempt: int
    progress: Progress
    code: str
    detail: str
    def __init__(self, report_id: _Optional[str] = ..., rollout_id: _Optional[str] = ..., attempt: _Optional[int] = ..., progress: _Optional[_Union[Progress, str]] = ..., code: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class ReportResponse(_message.Message):
    __slots__ = ("counted",)
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    counted: bool
    def __init__(self, counted: _Optional[bool] = ...) -> None: ...

class PermitRequest(_message.Message):
    __slots__ = ("rollout_id", "attempt", "give_back")
    ROLLOUT_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    GIVE_BACK_FIELD_NUMBER: _ClassVar[int]
    rollout_id: str
    attempt: int
    give_back: bool
    def __init__(self, rollout_id: _Optional[str] = ..., attempt: _Optional[int] = ..., give_back: _Optional[bool] = ...) -> None: ...

class PermitResponse(_message.Message):
    __slots__ = ("granted", "reason", "lease_seconds", "ask_again_seconds")
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ASK_AGAIN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    granted: bool
    reason: str
    lease_seconds: int
    ask_again_seconds: int
    def __init__(self, granted: _Optional[bool] = ..., reason: _Optional[str] = ..., lease_seconds: _Optional[int] = ..., ask_again_seconds: _Optional[int] = ...) -> None: ...

class RenewCertificateRequest(_message.Message):
    __slots__ = ("certificate_request",)
    CERTIFICATE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    certificate_request: bytes
    def __init__(self, certificate_request: _Optional[bytes] = ...) -> None: ...

class RenewCertificateResponse(_message.Message):
    __slots__ = ("certificate_chain", "device_ca")
    CERTIFICATE_CHAIN_FIELD_NUMBER: _ClassVar[int]
    DEVICE_CA_FIELD_NUMBER: _ClassVar[int]
    certificate_chain: str
    device_ca: str
    def __init__(self, certificate_chain: _Optional[str] = ..., device_ca: _Optional[str] = ...) -> None: ...

class UploadLogsRequest(_message.Message):
    __slots__ = ("head", "chunk", "end")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    head: UploadLogsHead
    chunk: bytes
    end: UploadLogsEnd
    def __init__(self, head: _Optional[_Union[UploadLogsHead, _Mapping]] = ..., chunk: _Optional[bytes] = ..., end: _Optional[_Union[UploadLogsEnd, _Mapping]] = ...) -> None: ...

class UploadLogsHead(_message.Message):
    __slots__ = ("command_id",)
    COMMAND_ID_FIELD_NUMBER: _ClassVar[int]
    command_id: str
    def __init__(self, command_id: _Optional[str] = ...) -> None: ...

class UploadLogsEnd(_message.Message):
    __slots__ = ("sha256", "length", "files")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    length: int
    files: int
    def __init__(self, sha256: _Optional[str] = ..., length: _Optional[int] = ..., files: _Optional[int] = ...) -> None: ...

class UploadLogsResponse(_message.Message):
    __slots__ = ("taken",)
    TAKEN_FIELD_NUMBER: _ClassVar[int]
    taken: bool
    def __init__(self, taken: _Optional[bool] = ...) -> None: ...
