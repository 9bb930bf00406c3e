from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from keys.password import MAX_BYTES, Passwords, PasswordSettings, password_fault

# Far below what production uses: these tests are about behaviour, not about strength.
CHEAP = PasswordSettings(time_cost=1, memory_kib=64, parallelism=1)
GOOD = "correct horse battery"


@pytest.fixture(scope="module")
def passwords() -> Passwords:
    return Passwords(CHEAP)


def test_the_right_password_matches(passwords: Passwords) -> None:
    assert passwords.verify(passwords.hash(GOOD), GOOD)


def test_a_wrong_password_does_not(passwords: Passwords) -> None:
    assert not passwords.verify(passwords.hash(GOOD), GOOD + "!")


def test_nobody_logs_in_to_an_account_without_a_password(passwords: Passwords) -> None:
    assert not passwords.verify(None, "")


def test_the_defaults_are_those_of_rfc_9106_low_memory() -> None:
    settings = PasswordSettings()
    assert (settings.time_cost, settings.memory_kib, settings.parallelism) == (3, 65536, 4)


def test_a_hash_names_its_parameters(passwords: Passwords) -> None:
    assert passwords.hash(GOOD).startswith("$argon2id$v=19$m=64,t=1,p=1$")


def test_the_same_password_twice_gives_two_hashes(passwords: Passwords) -> None:
    assert passwords.hash(GOOD) != passwords.hash(GOOD)


def test_a_hash_made_with_other_costs_is_outdated(passwords: Passwords) -> None:
    dearer = Passwords(PasswordSettings(time_cost=2, memory_kib=64, parallelism=1))
    assert dearer.is_outdated(passwords.hash(GOOD))


def test_a_hash_made_with_these_costs_is_not_outdated(passwords: Passwords) -> None:
    assert not passwords.is_outdated(passwords.hash(GOOD))


def test_a_hash_made_with_other_costs_still_opens(passwords: Passwords) -> None:
    dearer = Passwords(PasswordSettings(time_cost=2, memory_kib=64, parallelism=1))
    assert dearer.verify(passwords.hash(GOOD), GOOD)


def test_an_unknown_account_costs_a_whole_hash() -> None:
    costly = Passwords(PasswordSettings(time_cost=20, memory_kib=8192, parallelism=1))
    stored = costly.hash(GOOD)
    known = _processor_seconds(lambda: costly.verify(stored, GOOD + "!"))
    unknown = _processor_seconds(lambda: costly.verify(None, GOOD + "!"))
    assert unknown > known / 3


def test_a_row_that_holds_no_hash_opens_to_nobody(passwords: Passwords) -> None:
    assert not passwords.verify("plain text", "plain text")


def test_composed_and_decomposed_letters_are_one_password(passwords: Passwords) -> None:
    assert passwords.verify(passwords.hash("stra\u00dfe caf\u00e9 m\u00fcller"), "stra\u00dfe cafe\u0301 mu\u0308ller")


@pytest.mark.parametrize("password", ["\ud800" * 20, "x" * (MAX_BYTES + 1)], ids=["surrogate", "long"])
def test_a_password_that_could_not_be_stored_matches_nothing(passwords: Passwords, password: str) -> None:
    assert not passwords.verify(passwords.hash(GOOD), password)


@pytest.mark.parametrize(
    ("password", "fault"),
    [
        ("", "the password has 0 characters, at least 15 are needed"),
        ("fourteen chars", "the password has 14 characters, at least 15 are needed"),
        ("fifteen letters", None),
        ("x" * 1024, None),
        ("x" * 1025, "the password is longer than 1024 bytes or is not valid Unicode text"),
        ("\ud800" * 15, "the password is longer than 1024 bytes or is not valid Unicode text"),
    ],
)
def test_what_is_wrong_with_a_new_password_is_said(password: str, fault: str | None) -> None:
    assert password_fault(password) == fault


def test_a_faulty_password_is_not_hashed(passwords: Passwords) -> None:
    with pytest.raises(ValueError, match="at least 15"):
        passwords.hash("short")


def test_no_more_hashes_run_at_once_than_allowed() -> None:
    passwords = Passwords(PasswordSettings(time_cost=1, memory_kib=64, parallelism=1, concurrent=1))
    # The only slot is taken, so a second caller can only wait until it is given back.
    passwords._slots.acquire()
    done = threading.Event()

    def check() -> None:
        passwords.verify(None, GOOD)
        done.set()

    waiting = threading.Thread(target=check)
    waiting.start()
    assert not done.wait(0.2)
    passwords._slots.release()
    waiting.join(10)
    assert done.is_set()


def _processor_seconds(work: Callable[[], object]) -> float:
    started = time.thread_time()
    work()
    return time.thread_time() - started
