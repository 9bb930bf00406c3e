"""From the rooms' errors to HTTP: one table, and the one error shape."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

import orjson
from flask import Response

from api.asked import held
from api.logs import without_secrets
from evidence import errors as evidence
from fleet import errors as fleet
from keys import errors as custody
from repo_signing import errors as repository
from rollout import errors as rollouts
from sbom import errors as sboms
from store import errors as store


class ApiError(Exception):
    """An answer that is no success. ``code`` is stable; ``message`` says what was found, expected, and what to do."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        permission: str | None = None,
        details: list[tuple[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.permission = permission
        self.details = details or []
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The error as JSON, with the request's id."""
        held().error_code = self.code
        # Somebody may have pasted a key where an id belongs; the answer is read in logs of CI.
        message = without_secrets(self.message)
        error: dict[str, object] = {"code": self.code, "message": message, "request_id": request_id()}
        if self.permission is not None:
            error["permission"] = self.permission
        if self.details:
            error["details"] = [{"loc": loc, "message": message} for loc, message in self.details]
        response = Response(orjson.dumps({"error": error}), self.status, mimetype="application/json")
        response.headers.update(self.headers)
        return response


STATUS: Final[Mapping[type[Exception], int]] = {
    rollouts.UnknownRollout: 404,
    rollouts.InvalidPlan: 400,
    rollouts.InvalidCommand: 400,
    rollouts.UnknownRelease: 404,
    rollouts.ReleaseBlocked: 409,
    rollouts.UnknownGroup: 404,
    rollouts.GroupBusy: 409,
    rollouts.TransitionNotAllowed: 409,
    rollouts.ApprovalRefused: 409,
    rollouts.PlanChanged: 409,
    rollouts.RolloutChanged: 409,
    rollouts.SignaturesNeeded: 409,
    rollouts.UnknownExclusion: 404,
    rollouts.InvalidExclusion: 400,
    rollouts.TooManyExclusions: 409,
    rollouts.UnknownFreeze: 404,
    rollouts.InvalidFreeze: 400,
    rollouts.UnknownTemplate: 404,
    rollouts.InvalidTemplate: 400,
    rollouts.ReportRefused: 409,
    fleet.UnknownDevice: 404,
    fleet.DeviceExists: 409,
    fleet.DeviceRevoked: 409,
    fleet.UnknownCommand: 404,
    fleet.CommandOver: 409,
    fleet.LogsNotHere: 404,
    fleet.LogsDamaged: 400,
    fleet.LogsTooLarge: 413,
    fleet.LogQuotaReached: 409,
    fleet.UnknownGroup: 404,
    fleet.GroupExists: 409,
    fleet.GroupInUse: 409,
    fleet.GroupChanged: 409,
    fleet.WrongGroupKind: 409,
    fleet.InvalidSelector: 400,
    fleet.UnknownToken: 404,
    fleet.EnrolmentRefused: 403,
    fleet.InvalidFleetInput: 400,
    fleet.InvalidDeviceList: 400,
    repository.NoRepository: 503,
    repository.RepositoryExists: 409,
    repository.InvalidTargetPath: 400,
    repository.InvalidRecord: 400,
    repository.UnknownTarget: 404,
    repository.UnknownUpload: 404,
    repository.UploadTooLarge: 413,
    repository.UploadCutShort: 400,
    repository.PathTaken: 409,
    repository.CommitRefused: 409,
    repository.ClockBehind: 503,
    repository.ClockAhead: 503,
    repository.ClientWouldRefuse: 503,
    repository.RepositoryDamaged: 503,
    repository.RepositoryMoved: 503,
    repository.CommitFailed: 503,
    repository.IndexAhead: 503,
    repository.IndexFailed: 503,
    repository.WrongLayout: 409,
    repository.BatchRefused: 409,
    repository.WrongOffset: 409,
    repository.UploadBusy: 409,
    repository.UploadDamaged: 409,
    repository.ArtifactWithdrawn: 409,
    repository.MirrorRefused: 409,
    repository.BackupRefused: 409,
    repository.UnknownDraft: 404,
    repository.InvalidDraft: 400,
    repository.DraftMoved: 409,
    repository.DraftExpired: 409,
    repository.SignatureRefused: 400,
    repository.RotationNotDue: 409,
    repository.ProductClaimed: 409,
    repository.StorageUnusable: 503,
    repository.LeaseLost: 503,
    repository.ApproversSign: 409,
    sboms.InvalidSbom: 400,
    sboms.UnsupportedSbom: 415,
    sboms.SbomTooLarge: 413,
    sboms.InvalidAttestation: 400,
    sboms.UnsupportedAttestation: 415,
    sboms.AttestationTooLarge: 413,
    sboms.InvalidTrust: 503,  # the trust is the server's own; whoever sent the attestation cannot mend it
    evidence.UnknownWebhook: 404,
    evidence.UnknownDelivery: 404,
    evidence.InvalidWebhook: 400,
    evidence.TooManyWebhooks: 409,
    evidence.WebhookChanged: 409,
    evidence.WebhookDisabled: 409,
    evidence.SecretUnreadable: 503,
    evidence.UnknownPublisher: 404,
    evidence.InvalidPublisher: 400,
    evidence.TooManyPublishers: 409,
    evidence.NoPublisherMatches: 403,
    evidence.IdTokenSpent: 403,
    evidence.IssuerUnreachable: 503,
    evidence.LoginRefused: 403,
    custody.UnknownKey: 503,
    custody.KeyNotHere: 503,
    custody.KeyLocked: 503,
    custody.KeyDamaged: 503,
    custody.KeyExists: 409,
    custody.KeyStoreMissing: 503,
    custody.KeyUnsuitable: 400,
    custody.SigningFailed: 503,
    custody.SigningRefused: 503,
    custody.SignerUnusable: 503,
    custody.SealBroken: 503,
    custody.IdTokenInvalid: 403,
    custody.IdTokenKeyUnknown: 403,
    custody.DeviceCaExists: 409,
    custody.DeviceCaUnusable: 503,
    custody.DeviceCaRotationRefused: 409,
    custody.InvalidCertificateRequest: 400,
    store.InvalidDatabaseUrl: 503,
    store.DatabaseUnreachable: 503,
    store.DatabaseBusy: 503,
    store.DatabaseNotMigrated: 503,
    store.DatabaseTooNew: 503,
    store.UnstorableValue: 400,
    store.UnknownArtifact: 404,
    store.UnknownSbom: 404,
    store.UnknownAttestation: 404,
    store.UnknownUser: 404,
    store.UserExists: 409,
    store.UnknownApiKey: 404,
    store.ApiKeyReplaced: 409,
    store.UnknownSession: 404,
    store.SecondFactorExists: 409,
    store.NoSecondFactor: 409,
    store.UnknownInvitation: 404,
    store.InvitationRefused: 403,
    store.LastAdmin: 409,
    store.UnknownIdentity: 404,
    store.IdentityTaken: 409,
    store.AccountNotLinked: 409,
    store.UnknownOrg: 404,
    store.OrgExists: 409,
    store.CountsUnreachable: 503,
    store.IdempotencyMismatch: 422,
    store.IdempotencyInProgress: 409,
    store.IdempotencyUnknown: 409,
}

# Mistakes of this program's own, never of a request: they stay 500 and are logged.
OURS: Final = frozenset({store.NestedWrite, store.NaiveTime, rollouts.BrokenHistory})

_RETRY_AFTER: Final = "5"  # seconds
# Without the database nobody knows who asks; where it is stands in the log alone.
_NOT_FOR_STRANGERS: Final[Mapping[type[Exception], str]] = {
    store.DatabaseUnreachable: "the database does not answer; try again in a few seconds",
}


def from_domain(error: Exception) -> ApiError | None:
    """The answer for an error of one of the rooms; None for anything the table does not know."""
    status = STATUS.get(type(error))
    if status is None:
        return None
    headers = {"Retry-After": _RETRY_AFTER} if status == 503 else {}
    code: str = getattr(error, "code", "error")
    details: list[tuple[str, str]] = list(getattr(error, "details", ()))
    message = _NOT_FOR_STRANGERS.get(type(error), str(error))
    return ApiError(status, code, message, details=details, headers=headers)


def request_id() -> str:
    """The id of this request, in every answer and log line."""
    here = held()
    name: str | None = here.get("request_id")
    if name is None:
        # At every request: nobody sorts by it and it opens nothing, so it needs neither a ULID's time nor the kernel's
        # random, for which Python's lock is let go.
        name = here.request_id = f"req_{random.getrandbits(104):026X}"
    return name
