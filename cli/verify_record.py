"""The signed record of a target: in its ``custom`` field, or in the file of records that its role names by hash."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tuf.api.metadata import Metadata, TargetFile, Targets
from tuf.ngclient import FetcherInterface
from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher

from cli.errors import VerificationFailed
from cli.verify_chain import chain_to
from repo_signing.errors import RepositoryDamaged
from repo_signing.sheets import named_sheet, sheet_name


def record_of(target: TargetFile, folder: Path, metadata_url: str, fetcher: FetcherInterface | None) -> dict[str, Any]:
    """What is signed of a target beside its bytes; empty when nothing is.

    Args:
        target: As the client found it.
        folder: The client's metadata; every file in it was verified when it was written.
        metadata_url: Where files of records lie beside the roles.
        fetcher: Fetches them; None for python-tuf's own.

    Raises:
        VerificationFailed: The file of records is not the one that was signed.
        tuf.api.exceptions.DownloadError: It could not be fetched.
    """
    custom = target.unrecognized_fields.get("custom")
    standing: dict[str, Any] = custom if isinstance(custom, dict) else {}
    if "kind" in standing:
        return standing
    name = str(chain_to(target.path, folder)[-1]["role"])
    role = Metadata[Targets].from_file(str(folder / f"{quote(name, '')}.json")).signed
    try:
        named = named_sheet(role.unrecognized_fields)
    except RepositoryDamaged as error:
        raise VerificationFailed(f"{name}: {error}") from error
    if named is None:
        return standing
    length, sha256 = named
    file = sheet_name(role.version, name)
    content = (fetcher or Urllib3Fetcher()).download_bytes(f"{metadata_url.rstrip('/')}/{file}", length)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise VerificationFailed(f"{file} has other bytes than were signed")
    record: dict[str, Any] = json.loads(content).get(target.path, {})
    return record
