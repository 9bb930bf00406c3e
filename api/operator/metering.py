"""How many devices were active, night by night, as JSON or CSV."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Literal

from flask import Response
from pydantic import BaseModel, Field

from api.auth.permissions import Permission
from api.operator.routes import Body, Routes, now, reply, services
from api.operator.sheets import CSV, cell, lines, sheet, wants_csv
from fleet.metering import month_of

api = Routes("metering", "Metering")


class MeteredNight(BaseModel):
    """The devices that were active when the UTC day `date` ended."""

    date: date
    active: int
    counted_at: datetime


class Metering(BaseModel):
    """One month, by the nights of it that have been counted: of the fullest night, on average, and in sum."""

    org: str
    month: str
    most: int
    average: float
    device_nights: int
    nights: list[MeteredNight]


class MonthQuery(Body):
    """Which month. `format=csv`, or `Accept: text/csv`, gives its nights as one CSV."""

    month: str | None = Field(
        None, pattern=r"^[0-9]{4}-[0-9]{2}$", description="`YYYY-MM`, in UTC; by default the month of yesterday"
    )
    format: Literal["json", "csv"] | None = Field(None, description="`csv`: a line for each night, as `text/csv`")


@api.on(
    "GET",
    "/metering",
    Metering,
    media_types=(CSV,),
    permission=Permission.METERING_READ,
    errors=("invalid_fleet_input",),
)
def get_metering(query: MonthQuery) -> Response:
    """Show how many devices were active in a month, counted nightly"""
    org, yesterday = services().org, now().astimezone(UTC) - timedelta(days=1)
    name = query.month or f"{yesterday:%Y-%m}"
    month = month_of(services().meter, org, name)
    if wants_csv(query.format):
        rows = [(org, one.night.isoformat(), str(one.active), cell(one.counted_at)) for one in month.nights]
        return sheet(iter([lines([("org", "date", "active", "counted_at"), *rows])]), f"{org}-metering-{name}.csv")
    answer = Metering(
        org=org,
        month=name,
        most=month.most,
        average=month.average,
        device_nights=month.device_nights,
        nights=[MeteredNight(date=one.night, active=one.active, counted_at=one.counted_at) for one in month.nights],
    )
    return reply(answer)
