"""The device CA changes: a new one is trusted at once, certifies devices from its time on, and then is alone.

Three steps, since neither side may meet a certificate whose CA it does not know yet. (1) The new CA is trusted beside
the old one: servers take both, devices learn both when they enrol or renew. (2) From its time on it certifies devices;
the port goes on with the old one's certificate, for devices that have not renewed. (3) Finished, the new one is alone.
Source: docs/adr/0160-the-device-ca-has-custody-of-its-own.md
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.x509.oid import NameOID

from keys.authorities import (
    FIRST_CERTIFICATE,
    Authority,
    only_one,
    read_authorities,
    write_authorities,
)
from keys.device_ca import new_authority
from keys.errors import DeviceCaRotationRefused
from keys.files import SCHEME, remove_durably


def rotate(folder: Path, *, now: datetime, after: timedelta, key: str = "") -> Authority:
    """Put a new CA beside the one there is; it certifies devices ``after`` that span.

    Args:
        folder: Of the device CA.
        now: When the new CA begins.
        after: Long enough for every server to have read the new CA; a device that comes with a certificate of it
            before is turned away.
        key: Address of its key, as :func:`keys.stores.import_key` takes it; empty for a new encrypted file.

    Raises:
        DeviceCaRotationRefused: Another rotation is not finished.
        KeyUnsuitable, KeyNotHere, KeyLocked, KeyStoreMissing, DeviceCaUnusable: The key cannot be a CA's, or does not
            sign; nothing has changed.
    """
    with only_one(folder):
        authorities = read_authorities(folder)
        if len(authorities) > 1:
            raise DeviceCaRotationRefused(
                f"the device CA is being rotated since {authorities[-1].certificate.not_valid_before_utc:%Y-%m-%d}; "
                "finish that first: publish device-ca rotate --finish"
            )
        names = authorities[0].certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        file = f"ca-key-{secrets.token_hex(4)}.pem"
        try:
            made = new_authority(
                folder,
                now=now,
                # Certificates tell whole seconds, and are told from older ones by when they begin.
                issues_from=(now + after).replace(microsecond=0),
                organisation=str(names[0].value) if names else "Wavegate",
                key=key,
                file=file,
            )
            write_authorities(folder, (*authorities, made))
        except BaseException:
            with suppress(OSError):
                (folder / file).unlink(missing_ok=True)
            raise
    return made


def finish(folder: Path, *, now: datetime) -> tuple[Authority, ...]:
    """Leave the new CA alone; what the others certified is refused from the next look of each server on.

    Their key files are removed; keys in stores are left for their keepers.

    Returns:
        The CAs that went.

    Raises:
        DeviceCaRotationRefused: None is under way, or the new CA certifies no devices yet.
    """
    with only_one(folder):
        *gone, new = read_authorities(folder)
        if not gone:
            raise DeviceCaRotationRefused("no rotation of the device CA is under way; begin one without --finish")
        if new.issues_from > now:
            raise DeviceCaRotationRefused(
                f"the new device CA certifies devices from {new.issues_from:%Y-%m-%d %H:%M} UTC on; finish it later"
            )
        write_authorities(folder, (new,))
        # The file that names the keys went first: cut short here, keys are left that nothing names.
        (folder / FIRST_CERTIFICATE).unlink(missing_ok=True)
        for one in gone:
            scheme, _, name = one.key.partition(":")
            if scheme == SCHEME and one.key != new.key:
                remove_durably(folder / name)
    return tuple(gone)
