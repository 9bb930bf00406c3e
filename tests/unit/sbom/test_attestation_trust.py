"""The folder that says whom to believe about attestations."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sbom.attestation_model import SigstoreIdentity, SigstorePolicy
from sbom.attestation_trust import AttestationTrust, read_trust
from sbom.errors import InvalidTrust

SIGSTORE = """
trusted_root = "trusted_root.json"
[[identity]]
identity = "ci@example.com"
issuer = "https://accounts.example.com"
"""


def a_key() -> bytes:
    return (
        ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )


def test_a_folder_that_is_not_there_trusts_nobody(tmp_path: Path) -> None:
    assert read_trust(tmp_path / "nothing") == AttestationTrust()


def test_every_key_file_counts_and_other_files_do_not(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_bytes(a_key())
    (tmp_path / "cosign.pub").write_bytes(a_key())
    (tmp_path / "README").write_text("keys of the builders")
    trust = read_trust(tmp_path)
    assert (len(trust.keys), trust.sigstore_policy) == (2, None)


def test_sigstore_identities_are_read_with_the_root_beside_them(tmp_path: Path) -> None:
    (tmp_path / "sigstore.toml").write_text(SIGSTORE)
    assert read_trust(tmp_path).sigstore_policy == SigstorePolicy(
        identities=(SigstoreIdentity(identity="ci@example.com", issuer="https://accounts.example.com"),),
        trusted_root=tmp_path / "trusted_root.json",
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.pem", "no key", "a.pem: not a public key"),
        ("sigstore.toml", "= no TOML", "is no TOML"),
        ("sigstore.toml", "identity = []", "expected trusted_root"),
        ("sigstore.toml", SIGSTORE + "\nextra = 1", "no more"),
        ("sigstore.toml", 'trusted_root = "r"\nidentity = []', "names no identity"),
        ("sigstore.toml", 'trusted_root = "r"\n[[identity]]\nidentity = "a"', "a text issuer"),
        ("sigstore.toml", 'trusted_root = "r"\n[[identity]]\nidentity = "a"\nissuer = ""', "a text issuer"),
        ("sigstore.toml", 'trusted_root = 5\nidentity = "ci"', "expected trusted_root"),
    ],
)
def test_a_folder_with_a_fault_is_refused_whole(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InvalidTrust, match=said):
        read_trust(tmp_path)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("")
    with pytest.raises(InvalidTrust, match="cannot be read"):
        read_trust(tmp_path / "keys")
