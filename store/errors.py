"""What can be wrong with the store.

StoreError
├── InvalidDatabaseUrl       the address names no database we can use
├── DatabaseUnreachable      nobody answers there, or the file cannot be opened
├── DatabaseBusy             another writer held the database for too long
├── DatabaseNotMigrated      its tables are older than this program, or absent
├── DatabaseTooNew           its tables were made by a later release
├── NestedWrite              a write transaction inside a write transaction
├── NaiveTime                a time without a zone
├── UnstorableValue          text or a number that the database cannot hold
├── UnknownArtifact          no such artifact in this organisation
├── UnknownSbom              no such SBOM in this organisation
├── UnknownAttestation       no such attestation in this organisation
├── UnknownUser              no such account in this organisation
├── UserExists               the e-mail address is taken
├── UnknownApiKey            no such API key in this organisation
├── ApiKeyReplaced           the API key was rotated already
├── UnknownSession           no such login in this organisation
├── SecondFactorExists       the account has a second factor already
├── NoSecondFactor           the account has none, or another than was meant
├── UnknownInvitation        no such invitation in this organisation that is pending
├── InvitationRefused        the code cannot be accepted (any more)
├── LastAdmin                nobody would be left to administer accounts
├── UnknownIdentity          the account is nobody's at this provider, or somebody else's
├── IdentityTaken            somebody at a provider has an account already
├── AccountNotLinked         an address has an account, which is not theirs by the address alone
├── UnknownOrg               no such organisation
├── OrgExists                the organisation's slug is taken
├── CountsUnreachable        nobody counts requests where rate_limit_store says
├── IdempotencyMismatch      the key was used for another request
├── IdempotencyInProgress    the first request with this key has not been answered yet
└── IdempotencyUnknown       nor for so long that its server may have stopped in the middle
"""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy.exc import DontWrapMixin


class StoreError(Exception):
    """Root of the room's errors; ``code`` is stable, clients branch on it."""

    code: ClassVar[str] = "store_error"


class InvalidDatabaseUrl(StoreError):
    code = "invalid_database_url"


class DatabaseUnreachable(StoreError):
    code = "database_unreachable"


class DatabaseBusy(StoreError):
    code = "database_busy"


class DatabaseNotMigrated(StoreError):
    code = "database_not_migrated"


class DatabaseTooNew(StoreError):
    code = "database_too_new"


class NestedWrite(StoreError):
    code = "nested_write"


# Raised while SQLAlchemy binds a value; the mix-in keeps it from arriving inside a StatementError.
class NaiveTime(StoreError, DontWrapMixin):
    code = "naive_time"


class UnstorableValue(StoreError):
    code = "unstorable_value"


class UnknownArtifact(StoreError):
    code = "artifact_not_found"


class UnknownSbom(StoreError):
    code = "sbom_not_found"


class UnknownAttestation(StoreError):
    code = "attestation_not_found"


class UnknownUser(StoreError):
    code = "user_not_found"


class UserExists(StoreError):
    code = "user_exists"


class UnknownApiKey(StoreError):
    code = "api_key_not_found"


class ApiKeyReplaced(StoreError):
    code = "api_key_replaced"


class UnknownSession(StoreError):
    code = "session_not_found"


class SecondFactorExists(StoreError):
    code = "second_factor_exists"


class NoSecondFactor(StoreError):
    code = "no_second_factor"


class UnknownInvitation(StoreError):
    code = "invitation_not_found"


class InvitationRefused(StoreError):
    code = "invitation_refused"


class LastAdmin(StoreError):
    code = "last_admin"


class UnknownIdentity(StoreError):
    code = "identity_not_found"


class IdentityTaken(StoreError):
    code = "identity_taken"


class AccountNotLinked(StoreError):
    code = "account_not_linked"


class UnknownOrg(StoreError):
    code = "org_not_found"


class OrgExists(StoreError):
    code = "org_exists"


class CountsUnreachable(StoreError):
    code = "counts_unreachable"


class IdempotencyMismatch(StoreError):
    code = "idempotency_key_reused"


class IdempotencyInProgress(StoreError):
    code = "idempotency_in_progress"


class IdempotencyUnknown(StoreError):
    code = "idempotency_outcome_unknown"
