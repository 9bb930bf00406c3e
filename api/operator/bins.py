"""How targets are spread over roles."""

from __future__ import annotations

from flask import Response
from pydantic import BaseModel, Field

from api.auth.permissions import Permission
from api.codes import SIGNS
from api.operator.routes import Body, Routes, caller, now, reply, services
from repo_signing.roles import BIN_BITS, MAX_BIN_BITS

api = Routes("bins", "Repository")


class Rebin(Body):
    """How many bins, as a power of two; without it the best number, if it is two powers off."""

    bits: int | None = Field(None, ge=BIN_BITS, le=MAX_BIN_BITS)


class Rebinned(BaseModel):
    """The bins as they are now; `serial` is null when they were right already."""

    serial: int | None
    bits: int
    wanted_bits: int
    targets: int


@api.on(
    "POST",
    "/repository/rebin",
    Rebinned,
    permission=Permission.REPOSITORY_WRITE,
    errors=(*SIGNS, "invalid_draft", "wrong_layout"),
)
def rebin_repository(body: Rebin) -> Response:
    """Spread all targets over another number of bins"""
    repository = services().repository
    serial = repository.rebin(bits=body.bits, by=caller().actor, now=now())
    bins = repository.bins()
    return reply(Rebinned(serial=serial, bits=bins.bits, wanted_bits=bins.wanted_bits, targets=bins.targets))
