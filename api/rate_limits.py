"""Rate limits at the door: which store counts, and what a request that is one too many is answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from api.asked import extension, held
from api.auth.rates import Counts, MemoryCounts, Policy, Rates, Standing
from api.errors import ApiError
from api.operator.routes import now
from api.probes import Meter, current_meter
from api.wiring import Shared
from store.redis_counts import RedisCounts
from store.request_counts import SqlRequestCounts


def rates_of(shared: Shared, meter: Meter) -> Rates:
    """What counts the requests of an application, as its settings say.

    Raises:
        CountsUnreachable: The settings name Redis and its client is not installed.
    """
    settings = shared.settings
    quotas = {policy: getattr(settings, f"rate_limit_{policy}") for policy in Policy}
    return Rates(quotas, _counts(shared), failed=meter.uncounted.inc)


def count(policy: Policy, who: str) -> None:
    """Count this request of ``who``, and refuse it with 429 when it is one too many.

    Raises:
        ApiError: 429 ``rate_limited`` with ``Retry-After``.
    """
    rates = cast("Rates", extension("wavegate.rates"))
    standing = held().standing = rates.count(policy, who, now=now())
    if standing is None or not standing.is_over:
        return
    current_meter().limited.labels(policy.value).inc()
    raise ApiError(
        429,
        "rate_limited",
        f"more than {standing.quota} {policy} in a minute; wait {standing.seconds} s and go on more slowly, or have "
        f"rate_limit_{policy} raised",
        headers={"Retry-After": str(standing.seconds)},
    )


def headers() -> Mapping[str, str]:
    """What this request's answer says about the limits; nothing where there is none."""
    standing: Standing | None = held().get("standing")
    return {} if standing is None else standing.headers()


def _counts(shared: Shared) -> Counts:
    told = shared.settings.rate_limit_store
    if told == "memory":
        return MemoryCounts()
    if told == "database":
        return SqlRequestCounts(shared.db)
    return RedisCounts(told)
