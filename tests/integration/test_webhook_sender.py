"""One request to a receiver: judged by the address it connects to, bounded in time and size, never redirected."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from api.webhook_sender import GuardedSender
from evidence.webhooks.addresses import Allowed
from evidence.webhooks.model import Outcome
from tests.simulators.webhook_receiver import Answer, webhook_receiver

LOOPBACK = Allowed.parse(["127.0.0.1"])
NAME = "hooks.example.com"
PAUSE = threading.Event()  # never set


class Resolver:
    """Answers as told, one answer a question; the last stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def post(sender: GuardedSender, url: str) -> Outcome:
    return sender.send(url, {"webhook-id": "evt_1"}, b"{}")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "168.63.129.16",
        "fe80::1%lo",
        "fd00:ec2::254",
        "224.0.0.1",
        "ff02::1",
        "0.0.0.0",
        "::",
        "240.0.0.1",
    ],
)
def test_a_public_name_of_a_private_address_gets_nothing(address: str) -> None:
    with webhook_receiver() as receiver:
        sender = GuardedSender(Allowed(), resolver=Resolver([address]))
        outcome = post(sender, f"https://{NAME}:{receiver.port}/")
        assert outcome.status is None
        assert outcome.trouble.startswith("refused: ")
        assert receiver.got == []


def test_one_private_address_among_public_ones_spoils_them_all() -> None:
    resolver = Resolver(["93.184.215.14", "127.0.0.1"])
    outcome = post(GuardedSender(Allowed(), resolver=resolver), f"https://{NAME}/")
    assert outcome.trouble == (
        "refused: 127.0.0.1 is not a public address; the server's operator can allow it with `webhook_allow`"
    )


def test_a_name_that_changes_its_mind_is_asked_once_and_taken_at_its_first_word() -> None:
    with webhook_receiver() as receiver:
        resolver = Resolver(["127.0.0.1"], ["169.254.169.254"])
        allowed = Allowed.parse(["127.0.0.1", NAME])
        outcome = post(GuardedSender(allowed, resolver=resolver), f"http://{NAME}:{receiver.port}/x?y=z")
        assert (outcome.status, resolver.asked) == (204, [NAME])
        (got,) = receiver.got
        assert (got.path, got.headers["host"]) == ("/x?y=z", f"{NAME}:{receiver.port}")


def test_the_peer_of_the_open_connection_is_judged_and_not_only_what_was_asked_for() -> None:
    # The kernel takes 0.0.0.0 for this machine: what was allowed is not what answers.
    with webhook_receiver() as receiver:
        sender = GuardedSender(Allowed.parse(["0.0.0.0", NAME]), resolver=Resolver(["0.0.0.0"]))
        outcome = post(sender, f"http://{NAME}:{receiver.port}/")
        assert outcome.status == 204  # the name is allowed, loopback with it
        only_zero = GuardedSender(Allowed.parse(["0.0.0.0"]), resolver=Resolver(["0.0.0.0"]))
        refused = post(only_zero, f"https://{NAME}:{receiver.port}/")
        assert refused.trouble.startswith("refused: 127.0.0.1 is not a public address")
        assert len(receiver.got) == 1


def redirect_to(url: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(307)
        request.send_header("location", url)
        request.send_header("content-length", "0")
        request.end_headers()

    return answer


@pytest.mark.parametrize("target", ["http://127.0.0.1:{port}/", "http://169.254.169.254/", "file:///etc/passwd"])
def test_a_redirect_is_not_followed(target: str) -> None:
    with webhook_receiver() as receiver, webhook_receiver() as other:
        receiver.answers.append(redirect_to(target.format(port=other.port)))
        outcome = post(GuardedSender(LOOPBACK), receiver.url)
        assert outcome.status == 307
        assert outcome.trouble == "it answered 307; redirects are not followed, give the receiver's final URL"
        assert (len(receiver.got), other.got) == (1, [])


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with webhook_receiver() as receiver, webhook_receiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert post(GuardedSender(LOOPBACK), receiver.url).status == 204
        assert proxy.got == []


def test_an_answer_without_end_is_read_to_its_bound() -> None:
    def flood(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        try:
            while True:
                request.wfile.write(b"x" * 65_536)
        except OSError:
            return

    with webhook_receiver() as receiver:
        receiver.answers.append(flood)
        outcome = post(GuardedSender(LOOPBACK), receiver.url)
        assert (outcome.status, outcome.answer) == (200, "x" * 1024)


def drip(request: BaseHTTPRequestHandler) -> None:
    try:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nx-slow: ")
        while True:
            request.wfile.write(b"a")
            request.wfile.flush()
            PAUSE.wait(0.02)
    except OSError:
        return


def test_an_answer_that_drips_is_cut_at_the_deadline() -> None:
    with webhook_receiver() as receiver:
        receiver.answers.append(drip)
        outcome = post(GuardedSender(LOOPBACK, seconds=0.3), receiver.url)
        assert (outcome.status, outcome.trouble) == (None, "no whole answer within 0.3 s")


def nonsense(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"\x00\xffnonsense\r\n\r\n")


def test_an_answer_that_is_no_http_is_told_as_no_answer() -> None:
    with webhook_receiver() as receiver:
        receiver.answers.append(nonsense)
        outcome = post(GuardedSender(LOOPBACK), receiver.url)
        assert outcome.status is None
        assert outcome.trouble.startswith("no answer: ")


def test_nobody_there_is_told_as_no_answer() -> None:
    with webhook_receiver() as receiver:
        url = receiver.url
    assert post(GuardedSender(LOOPBACK), url).trouble == "no answer: Connection refused"


def test_retry_after_is_read_in_seconds_only() -> None:
    def busy(value: str) -> Answer:
        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(503)
            request.send_header("retry-after", value)
            request.send_header("content-length", "0")
            request.end_headers()

        return answer

    with webhook_receiver() as receiver:
        receiver.answers += [busy("120"), busy("Wed, 21 Oct 2026 07:28:00 GMT"), busy("9" * 40)]
        sender = GuardedSender(LOOPBACK)
        assert [post(sender, receiver.url).retry_after for _ in range(3)] == [120, None, None]


def test_a_receiver_with_a_certificate_for_another_name_or_of_nobody_gets_nothing(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path, NAME)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    allowed, resolver = Allowed.parse(["127.0.0.1"]), Resolver(["127.0.0.1"])
    with webhook_receiver(server) as receiver:
        right = GuardedSender(allowed, resolver=resolver, tls=trusting)
        assert post(right, f"https://{NAME}:{receiver.port}/").status == 204
        wrong_name = post(right, f"https://other.example.com:{receiver.port}/")
        assert wrong_name.trouble.startswith("the receiver's certificate is refused: Hostname mismatch")
        unknown = post(GuardedSender(allowed, resolver=resolver), f"https://{NAME}:{receiver.port}/")
        assert unknown.trouble == "the receiver's certificate is refused: self-signed certificate"
        assert len(receiver.got) == 1


def self_signed(folder: Path, name: str) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "receiver.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    return file
