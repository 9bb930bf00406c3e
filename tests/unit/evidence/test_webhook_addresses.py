"""Where webhooks may not go, by text and by address."""

from __future__ import annotations

import pytest

from evidence.errors import InvalidWebhook
from evidence.webhooks.addresses import Allowed, Place, place_of, why_refused

NOBODY = Allowed()

HOSTILE = (
    "https://127.0.0.1/",
    "https://127.1/",
    "https://127.0.0.2:8443/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://0/",
    "https://0.0.0.0/",
    "https://0.0.0.0:8443/",
    "https://localhost/",
    "https://LOCALHOST/",
    "https://localhost./",
    "https://a.localhost/",
    "https://printer.local/",
    "https://metadata.google.internal/computeMetadata/v1/",
    "https://metadata/",
    "https://10.0.0.1/",
    "https://10.255.255.255/",
    "https://172.16.0.1/",
    "https://172.31.255.254/",
    "https://192.168.1.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://169.254.0.1/",
    "https://168.63.129.16/",
    "https://100.64.0.1/",
    "https://100.100.100.200/latest/meta-data/",
    "https://192.0.0.192/",
    "https://198.18.0.1/",
    "https://192.0.2.1/",
    "https://224.0.0.1/",
    "https://239.255.255.250/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://[::1]/",
    "https://[::]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::ffff:169.254.169.254]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b::10.0.0.1]/",
    "https://[64:ff9b:1::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fec0::1]/",
    "https://[fd00:ec2::254]/",
    "https://[fc00::1]/",
    "https://[ff02::1]/",
    "https://[ff0e::1]/",
    "https://[2001:db8::1]/",
    "https://[100::1]/",
    "http://hooks.example.com/",
    "http://93.184.215.14/",
    "ftp://hooks.example.com/",
    "file:///etc/passwd",
    "gopher://hooks.example.com/_x",
    "//hooks.example.com/",
    "hooks.example.com",
    "https://",
    "https:///path",
    "https://hooks.example.com@127.0.0.1/",
    "https://user:secret@hooks.example.com/",
    "https://hooks.example.com#@127.0.0.1/",
    "https://hooks.example.com\\@127.0.0.1/",
    "https://127.0.0.1\\.example.com/",
    "https://hooks.example.com/ HTTP/1.1\r\nX: y",
    "https://hooks.example.com/\tx",
    "https://hooks.example.com/\x00",
    "https://hooks.example.com:25/",
    "https://hooks.example.com:22/",
    "https://hooks.example.com:0/",
    "https://hooks.example.com:99999/",
    "https://hooks.example.com:x/",
    "https://hooks..example.com/",
    "https://-x-.example.com/",
    "https://%6c%6f%63%61%6c%68%6f%73%74/",
    "https://①②⑦.⓪.⓪.①/",
    "https://127。0。0。1/",
    "https://lоcalhost.example.com/",
    "https://[::1/",
    "https://[127.0.0.1]/",
    "https://example.com:80:443/",
    "https://" + "a" * 2048 + ".example.com/",
)


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
