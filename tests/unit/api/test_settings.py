"""Every setting: documented, read from a variable and from the file, refused by name when it cannot work."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from api.setting_meanings import MEANINGS, RANGES
from api.settings import InvalidSettings, Settings, read_settings

# One setting tells two things: where the folder of the repositories is, and which bucket it is a copy of.
TOLD_BY_STORAGE_URL = {"storage", "bucket"}

SAMPLES: dict[str, tuple[str, object]] = {
    "home": ("/srv/wavegate", Path("/srv/wavegate")),
    "database_url": ("postgresql://db/wavegate", "postgresql://db/wavegate"),
    "storage_endpoint": ("https://s3.example.net/", "https://s3.example.net"),
    "storage_region": ("eu-central-1", "eu-central-1"),
    "storage_virtual_host": ("true", True),
    "storage_allow_http": ("1", True),
    "target_downloads": ("redirect", "redirect"),
    "public_url": ("https://fleet.example.com/", "https://fleet.example.com"),
    "device_endpoint": ("fleet.example.com:8443", "fleet.example.com:8443"),
    "canary_url": ("off", "off"),
    "log_level": ("DEBUG", "debug"),
    "log_format": ("text", "text"),
    "otlp_endpoint": ("http://127.0.0.1:4318/", "http://127.0.0.1:4318"),
    "require_password_change": ("true", True),
    "attestation_keys": ("/srv/keys", Path("/srv/keys")),
}


def test_what_is_documented_is_what_there_is() -> None:
    there = {one.name for one in fields(Settings)}
    assert there - TOLD_BY_STORAGE_URL == MEANINGS.keys() - {"storage_url"}
    assert [name for name, meaning in MEANINGS.items() if len(meaning) < 15] == []


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_setting_is_read_from_a_variable_and_from_the_file_and_the_variable_wins(name: str, tmp_path: Path) -> None:
    text, value = SAMPLES[name]
    assert getattr(read_settings({f"WAVEGATE_{name.upper()}": text}), name) == value
    config = tmp_path / "wavegate.toml"
    config.write_text(f'{name} = "{text}"\n')
    assert getattr(read_settings({}, config), name) == value
    config.write_text(f'{name} = "nonsense that no setting takes"\n')
    assert getattr(read_settings({f"WAVEGATE_{name.upper()}": text}, config), name) == value


@pytest.mark.parametrize("name", sorted(RANGES))
def test_a_number_out_of_range_is_refused_by_name_with_the_range(name: str) -> None:
    least, most = RANGES[name]
    assert (
        getattr(read_settings({f"WAVEGATE_{name.upper()}": f"{most:g}" if most < 1e6 else str(int(most))}), name)
        == most
    )
    for wrong in (str(least - 1), str(int(most) + 1), "many", "nan", ""):
        with pytest.raises(InvalidSettings, match=f"^{name} is "):
            read_settings({f"WAVEGATE_{name.upper()}": wrong})


@pytest.mark.parametrize(
    "name", ["log_format", "log_level", "target_downloads", "public_url", "listen", "otlp_endpoint"]
)
def test_a_word_that_is_none_of_those_expected_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidSettings, match=f"^{name} is "):
        read_settings({f"WAVEGATE_{name.upper()}": "nonsense"})


def test_an_unknown_name_is_refused_and_the_known_ones_are_listed(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="WAVEGATE_LISTN is no setting; the settings are attestation_keys, "):
        read_settings({"WAVEGATE_LISTN": "127.0.0.1:8080"})
    config = tmp_path / "wavegate.toml"
    config.write_text("listn = 1\n")
    with pytest.raises(InvalidSettings, match="'listn' is no setting"):
        read_settings({}, config)
