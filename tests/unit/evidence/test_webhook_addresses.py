"""Where webhooks may not go, by text and by address."""

from __future__ import annotations

import pytest

from evidence.errors import InvalidWebhook
from evidence.webhooks.addresses import Allowed, Place, place_of, why_refused
from tests.simulators.hostile_urls import HOSTILE

NOBODY = Allowed()


@pytest.mark.parametrize("url", HOSTILE)
def test_a_hostile_url_is_refused_as_it_is_typed(url: str) -> None:
    with pytest.raises(InvalidWebhook):
        place_of(url, NOBODY)


def test_there_are_many_of_them() -> None:
    assert len(set(HOSTILE)) >= 80


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://hooks.example.com", Place(True, "hooks.example.com", 443, "/")),
        ("https://Hooks.Example.com:8443/a?b=c", Place(True, "hooks.example.com", 8443, "/a?b=c")),
        ("https://xn--bcher-kva.example/x", Place(True, "xn--bcher-kva.example", 443, "/x")),
        ("https://93.184.215.14/", Place(True, "93.184.215.14", 443, "/")),
        ("https://[2606:4700:4700::1111]/", Place(True, "2606:4700:4700::1111", 443, "/")),
        ("https://[::ffff:93.184.215.14]/", Place(True, "::ffff:93.184.215.14", 443, "/")),
        ("https://7.example.com/", Place(True, "7.example.com", 443, "/")),
    ],
)
def test_a_public_receiver_is_taken(url: str, place: Place) -> None:
    assert place_of(url, NOBODY) == place


def test_what_the_operator_allows_is_taken_even_without_tls_and_on_any_port() -> None:
    allowed = Allowed.parse(["10.1.0.0/16", "127.0.0.1", "::1", "hooks.corp"])
    assert place_of("http://10.1.2.3:81/", allowed) == Place(False, "10.1.2.3", 81, "/")
    assert place_of("http://127.0.0.1:8080/x", allowed) == Place(False, "127.0.0.1", 8080, "/x")
    assert place_of("http://[::1]/", allowed) == Place(False, "::1", 80, "/")
    assert place_of("http://hooks.corp/", allowed) == Place(False, "hooks.corp", 80, "/")
    for url in ("http://10.2.0.1/", "https://other.corp/", "https://127.0.0.2/"):
        with pytest.raises(InvalidWebhook):
            place_of(url, allowed)


def test_an_allowed_name_opens_no_way_to_a_cloud_s_metadata() -> None:
    allowed = Allowed.parse(["hooks.corp"])
    assert why_refused("10.0.0.7", "hooks.corp", allowed) is None
    assert why_refused("::1", "hooks.corp", allowed) is None
    for address in ("169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "0.0.0.0", "::", "224.0.0.1"):
        assert why_refused(address, "hooks.corp", allowed) is not None, address
    assert why_refused("10.0.0.7", "elsewhere.corp", allowed) is not None


def test_what_is_no_address_is_refused() -> None:
    assert why_refused("nowhere", "hooks.example.com", NOBODY) == "'nowhere' is no address"


@pytest.mark.parametrize("entry", ["10.0.0.1/8", "10.0.0.0/33", "a b", "127.1", "http://x", "*.corp", ""])
def test_a_bad_entry_of_the_allowed_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match="neither a network"):
        Allowed.parse([entry])
