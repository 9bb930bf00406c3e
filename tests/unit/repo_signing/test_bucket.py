"""Addresses of buckets at every provider, and what is refused; nothing here makes a request."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from repo_signing.bucket import Bucket, BucketAddress
from repo_signing.errors import StorageUnusable


def test_an_s3_url_is_signed_for_the_bucket_in_path_or_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AK")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "never told")
    url = Bucket(BucketAddress(url="s3://fleet/a/b", region="eu-central-1")).url("blobs/ab/x", 900)
    assert url.startswith("https://s3.eu-central-1.amazonaws.com/fleet/a/b/blobs/ab/x?")
    assert "X-Amz-Expires=900" in url
    assert "never" not in url
    hosted = Bucket(BucketAddress(url="s3://fleet", region="eu-central-1", virtual_host=True)).url("x", 60)
    assert hosted.startswith("https://fleet.s3.eu-central-1.amazonaws.com/x?")
    own = Bucket(BucketAddress(url="s3://fleet", endpoint="https://s3.example.net", region="x")).url("y", 60)
    assert own.startswith("https://s3.example.net/fleet/y?")


def test_an_azure_url_is_signed_for_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "fleet")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(b"k" * 32).decode())
    url = Bucket(BucketAddress(url="az://releases/p")).url("blobs/ab/x", 900)
    assert url.startswith("https://fleet.blob.core.windows.net/releases/p/blobs/ab/x?")
    assert "sig=" in url


def test_a_google_url_is_signed_for_the_bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    account = {"type": "service_account", "private_key": key.decode(), "private_key_id": "1"}
    file = tmp_path / "account.json"
    file.write_text(json.dumps(account | {"client_email": "w@example.iam.gserviceaccount.com", "client_id": "1"}))
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(file))
    url = Bucket(BucketAddress(url="gs://fleet/p")).url("blobs/ab/x", 900)
    assert url.startswith("https://storage.googleapis.com/fleet/p/blobs/ab/x?")
    assert "X-Goog-Expires=900" in url


@pytest.mark.parametrize("url", ["ftp://x/y", "s3://", "s3://key:secret@bucket", "s3://bucket?x=1", "bucket"])
def test_what_names_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(StorageUnusable, match="names no bucket") as refused:
        Bucket(BucketAddress(url=url))
    assert "secret" not in str(refused.value)


def test_a_deeper_address_keeps_everything_else() -> None:
    address = BucketAddress(url="s3://b/p/", endpoint="https://e", region="r", virtual_host=True, allow_http=True)
    assert address.below("acme") == BucketAddress(
        url="s3://b/p/acme", endpoint="https://e", region="r", virtual_host=True, allow_http=True
    )
