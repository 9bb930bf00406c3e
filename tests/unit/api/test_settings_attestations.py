"""Where the server looks for the keys of attestations."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.settings import InvalidSettings, read_settings


def test_the_folder_is_in_the_home_unless_it_is_named() -> None:
    assert read_settings({"WAVEGATE_HOME": "/srv/w"}).attestation_keys == Path("/srv/w/attestation-keys")
    named = {"WAVEGATE_HOME": "/srv/w", "WAVEGATE_ATTESTATION_KEYS": "/etc/wavegate/builders"}
    assert read_settings(named).attestation_keys == Path("/etc/wavegate/builders")


def test_a_folder_named_from_the_working_directory_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="expected an absolute path"):
        read_settings({"WAVEGATE_ATTESTATION_KEYS": "builders"})
