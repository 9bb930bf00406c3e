from __future__ import annotations

import hashlib
import re

import pytest

from keys.secret import (
    API_KEY,
    LOGIN_TOKEN,
    check_form,
    digest,
    new_secret,
    random_base62,
    random_password,
    same_digest,
    shown_prefix,
)

# CRC32 3137424886, as the trailer of `printf wgk_0…0A | gzip` tells it; in base62 that is 3QKJXC.
KNOWN = "wgk_" + "0" * 42 + "A" + "3QKJXC"


def test_a_secret_has_the_documented_form() -> None:
    assert re.fullmatch(r"wgk_[0-9A-Za-z]{49}", new_secret(API_KEY).text)


def test_a_secret_passes_its_own_check() -> None:
    assert check_form(new_secret(LOGIN_TOKEN).text, LOGIN_TOKEN)


def test_two_secrets_differ() -> None:
    assert len({new_secret(API_KEY).text for _ in range(100)}) == 100


def test_what_is_stored_is_the_sha256_of_the_whole_text() -> None:
    secret = new_secret(API_KEY)
    assert secret.sha256 == hashlib.sha256(secret.text.encode()).hexdigest()


def test_a_digest_is_the_well_known_one() -> None:
    assert digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_text_with_a_lone_surrogate_still_has_a_digest() -> None:
    assert len(digest("wgk_\ud800")) == 64


def test_the_checksum_stays_what_it_was() -> None:
    assert check_form(KNOWN, API_KEY)


@pytest.mark.parametrize("position", range(4, 53))
def test_one_wrong_character_anywhere_is_noticed(position: int) -> None:
    wrong = "B" if KNOWN[position] != "B" else "C"
    assert not check_form(KNOWN[:position] + wrong + KNOWN[position + 1 :], API_KEY)


@pytest.mark.parametrize(
    "text",
    ["", "wgk", "wgk_", KNOWN[:-1], KNOWN + "0", KNOWN + "\n", " " + KNOWN, KNOWN.replace("A", "é"), "wgl" + KNOWN[3:]],
)
def test_other_texts_are_not_secrets(text: str) -> None:
    assert not check_form(text, API_KEY)


def test_a_secret_of_one_kind_is_none_of_another() -> None:
    assert not check_form(new_secret(API_KEY).text, LOGIN_TOKEN)


@pytest.mark.parametrize("prefix", ["", "wg", "WGK", "wgkx", "w_k"])
def test_a_prefix_is_three_lower_case_letters(prefix: str) -> None:
    with pytest.raises(ValueError, match="three lower-case letters"):
        new_secret(prefix)


def test_equal_digests_are_the_same() -> None:
    assert same_digest("ab", "ab")


def test_other_digests_are_not() -> None:
    assert not same_digest("ab", "ac")


def test_what_is_shown_of_a_secret_is_short() -> None:
    assert shown_prefix(KNOWN) == "wgk_000000"


def test_random_base62_always_has_43_characters() -> None:
    assert {len(random_base62()) for _ in range(200)} == {43}


def test_a_first_password_has_no_characters_that_look_alike() -> None:
    assert re.fullmatch(r"[2-9A-HJ-NP-Za-km-z]{22}", random_password())


def test_two_first_passwords_differ() -> None:
    assert random_password() != random_password()
