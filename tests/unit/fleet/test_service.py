"""Enrolment and what people do with the fleet, over the fleet in memory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from evidence.model import Actor, ActorKind
from fleet import service
from fleet.enrol import EnrolRequest, Renewed, enrol, renew
from fleet.errors import (
    DeviceExists,
    DeviceRevoked,
    EnrolmentRefused,
    GroupExists,
    GroupInUse,
    InvalidFleetInput,
    UnknownDevice,
    UnknownGroup,
    UnknownToken,
)
from keys.device_ca import IssuedCertificate
from keys.errors import InvalidCertificateRequest
from tests.simulators.fleet import FleetSimulator

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ADA = Actor(ActorKind.USER, "usr_ada", "Ada")
ROOT = "5f" * 32


class PaperIssuer:
    """Certifies anything but ``b"bad"``; fingerprints count up."""

    certificate_pem = "the CA"
    issued = 0

    def issue(
        self, request: bytes, device_id: str, *, now: datetime, days: int = 30, organisation: str | None = None
    ) -> IssuedCertificate:
        if request == b"bad":
            raise InvalidCertificateRequest("the certificate request is not signed by its own key; make it afresh")
        self.issued += 1
        return IssuedCertificate(
            chain_pem=f"certificate {self.issued} of {device_id}",
            fingerprint=f"{self.issued:064x}",
            serial=f"{self.issued:x}",
            not_before=now - timedelta(minutes=5),
            not_after=now + timedelta(days=days),
        )


@pytest.fixture
def fleet() -> FleetSimulator:
    fleet = FleetSimulator(group_in_use=lambda org, name: name == "busy")
    service.create_group(fleet, "acme", name="canary", description="the first", by=ADA, now=NOON)
    return fleet


def a_token(fleet: FleetSimulator, *, max_uses: int = 1, groups: tuple[str, ...] = ("canary",)) -> str:
    _, text = service.create_token(
        fleet,
        "acme",
        name="lab",
        root_sha256=ROOT,
        life=timedelta(hours=1),
        max_uses=max_uses,
        groups=groups,
        labels={"site": "lab"},
        by=ADA,
        now=NOON,
    )
    return text


def asking(token: str, name: str = "press-1", request: bytes = b"csr", platform: str = "linux-x86_64") -> EnrolRequest:
    return EnrolRequest(token=token, certificate_request=request, name=name, platform=platform, hostname="h\x00ost")


def test_a_device_that_enrols_has_the_tokens_groups_and_labels(fleet: FleetSimulator) -> None:
    enrolled = enrol(asking(a_token(fleet)), fleet=fleet, issuer=PaperIssuer(), now=NOON)

    device = fleet.device("acme", "press-1")
    assert device == enrolled.device
    assert (device.groups, device.labels, device.hostname) == (("canary",), {"site": "lab"}, "host")
    assert (enrolled.device_ca, enrolled.root_sha256) == ("the CA", ROOT)
    assert fleet.device_by_fingerprint("0" * 63 + "1")[0].id == device.id
    event = fleet.events[-1]
    assert (event.tag, event.subject, event.by.id) == ("device.enrolled", device.id, device.id)


def test_no_event_holds_the_token(fleet: FleetSimulator) -> None:
    token = a_token(fleet)
    enrol(asking(token), fleet=fleet, issuer=PaperIssuer(), now=NOON)

    assert token[-43:] not in repr(fleet.events)
    assert token[-43:] not in repr(asking(token))


def test_a_used_up_token_lets_nobody_in(fleet: FleetSimulator) -> None:
    token = a_token(fleet)
    enrol(asking(token), fleet=fleet, issuer=PaperIssuer(), now=NOON)

    with pytest.raises(EnrolmentRefused, match="used up: 1 of 1"):
        enrol(asking(token, "press-2"), fleet=fleet, issuer=PaperIssuer(), now=NOON)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda token: asking(token[:-1] + ("a" if token[-1] != "a" else "b")), EnrolmentRefused),
        (lambda token: asking("nonsense"), EnrolmentRefused),
        (lambda token: asking(token, name="two words"), InvalidFleetInput),
        (lambda token: asking(token, platform="any"), InvalidFleetInput),
        (lambda token: asking(token, request=b"bad"), InvalidFleetInput),
        (lambda token: asking(token, name="taken"), DeviceExists),
    ],
    ids=["other secret", "no token", "name", "platform", "request", "name taken"],
)
def test_a_refused_enrolment_leaves_nothing_and_keeps_the_tokens_place(
    fleet: FleetSimulator, wrong: Callable[[str], EnrolRequest], error: type[Exception]
) -> None:
    enrol(asking(a_token(fleet), "taken"), fleet=fleet, issuer=PaperIssuer(), now=NOON)
    token = a_token(fleet)
    events = len(fleet.events)

    with pytest.raises(error):
        enrol(wrong(token), fleet=fleet, issuer=PaperIssuer(), now=NOON)

    assert len(fleet.events) == events
    enrol(asking(token, "press-1"), fleet=fleet, issuer=PaperIssuer(), now=NOON)


def test_a_token_ends_at_its_time(fleet: FleetSimulator) -> None:
    token = a_token(fleet)
    with pytest.raises(EnrolmentRefused, match="expired at 2026-11-21 13:00 UTC"):
        enrol(asking(token), fleet=fleet, issuer=PaperIssuer(), now=NOON + timedelta(hours=1))


def test_a_strangers_request_costs_no_public_key_work(fleet: FleetSimulator) -> None:
    issuer = PaperIssuer()
    with pytest.raises(EnrolmentRefused):
        enrol(asking(f"wge_{ROOT}_{'a' * 43}"), fleet=fleet, issuer=issuer, now=NOON)

    assert issuer.issued == 0


def test_a_revoked_device_gets_no_new_certificate(fleet: FleetSimulator) -> None:
    issuer = PaperIssuer()
    device = enrol(asking(a_token(fleet)), fleet=fleet, issuer=issuer, now=NOON).device
    renewed = renew(device, b"csr", fleet=fleet, issuer=issuer, now=NOON)
    assert renewed == Renewed(certificate_chain=f"certificate 2 of {device.id}", device_ca="the CA")

    revoked = service.revoke_device(fleet, "acme", "press-1", "stolen", by=ADA, now=NOON)

    with pytest.raises(DeviceRevoked):
        renew(revoked, b"csr", fleet=fleet, issuer=issuer, now=NOON)


def test_a_device_joins_and_leaves_a_group_once(fleet: FleetSimulator) -> None:
    enrol(asking(a_token(fleet, groups=())), fleet=fleet, issuer=PaperIssuer(), now=NOON)

    assert service.join_group(fleet, "acme", "canary", "press-1", by=ADA, now=NOON)
    assert not service.join_group(fleet, "acme", "canary", "press-1", by=ADA, now=NOON)
    assert fleet.group("acme", "canary").devices == 1
    assert service.leave_group(fleet, "acme", "canary", "press-1", by=ADA, now=NOON)
    assert not service.leave_group(fleet, "acme", "canary", "press-1", by=ADA, now=NOON)

    assert [event.tag for event in fleet.events][-2:] == ["group.device.added", "group.device.removed"]


def test_a_group_in_a_rollout_stays(fleet: FleetSimulator) -> None:
    service.create_group(fleet, "acme", name="busy", description="", by=ADA, now=NOON)
    with pytest.raises(GroupInUse):
        service.delete_group(fleet, "acme", "busy", by=ADA, now=NOON)
    service.delete_group(fleet, "acme", "canary", by=ADA, now=NOON)
    with pytest.raises(UnknownGroup):
        fleet.group("acme", "canary")


def test_a_groups_description_changes_and_its_name_does_not(fleet: FleetSimulator) -> None:
    assert service.edit_group(fleet, "acme", "canary", description="ours", by=ADA, now=NOON).description == "ours"
    with pytest.raises(GroupExists):
        service.create_group(fleet, "acme", name="canary", description="", by=ADA, now=NOON)


def test_a_deleted_devices_name_is_free_and_its_certificate_unknown(fleet: FleetSimulator) -> None:
    token = a_token(fleet, max_uses=2)
    enrol(asking(token), fleet=fleet, issuer=PaperIssuer(), now=NOON)
    service.delete_device(fleet, "acme", "press-1", by=ADA, now=NOON)

    with pytest.raises(UnknownDevice):
        fleet.device_by_fingerprint("0" * 63 + "1")
    issuer = PaperIssuer()
    issuer.issued = 5
    assert enrol(asking(token), fleet=fleet, issuer=issuer, now=NOON).device.name == "press-1"


def test_a_deleted_token_lets_nobody_in(fleet: FleetSimulator) -> None:
    token = a_token(fleet)
    (kept,) = fleet.tokens("acme", after=None, limit=10)
    service.delete_token(fleet, "acme", kept.id, by=ADA, now=NOON)

    with pytest.raises(EnrolmentRefused):
        enrol(asking(token), fleet=fleet, issuer=PaperIssuer(), now=NOON)
    with pytest.raises(UnknownToken):
        service.delete_token(fleet, "acme", kept.id, by=ADA, now=NOON)


@pytest.mark.parametrize(
    ("life", "uses"),
    [(timedelta(0), 1), (timedelta(days=367), 1), (timedelta(hours=1), 0), (timedelta(hours=1), 1_000_001)],
)
def test_a_token_out_of_bounds_is_not_made(fleet: FleetSimulator, life: timedelta, uses: int) -> None:
    with pytest.raises(InvalidFleetInput):
        service.create_token(
            fleet,
            "acme",
            name="lab",
            root_sha256=ROOT,
            life=life,
            max_uses=uses,
            groups=[],
            labels={},
            by=ADA,
            now=NOON,
        )


def test_a_token_for_a_group_that_is_not_there_is_not_made(fleet: FleetSimulator) -> None:
    with pytest.raises(UnknownGroup):
        a_token(fleet, groups=("nowhere",))


@pytest.mark.parametrize("reason", ["", "  ", "x" * 1001])
def test_revoking_needs_a_reason(fleet: FleetSimulator, reason: str) -> None:
    with pytest.raises(InvalidFleetInput, match="needs a reason"):
        service.revoke_device(fleet, "acme", "press-1", reason, by=ADA, now=NOON)
