"""How often somebody called within a window, counted in Redis for all servers that name it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from store.errors import CountsUnreachable

if TYPE_CHECKING:
    from redis import Redis

_PREFIX: Final = "wavegate:rates:"
# A count is not worth waiting for: a request that Redis does not answer in this time is counted elsewhere.
_PATIENCE_SECONDS: Final = 0.25
_KEPT_SECONDS: Final = 60  # past the window's end: clocks may differ


class RedisCounts:
    """A counter for each key and window, which Redis drops by itself.

    Args:
        url: ``redis://`` or ``rediss://`` (TLS), ``[user:password@]host[:port][/database]``. Nothing is opened before
            the first count.

    Raises:
        CountsUnreachable: The client library is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            from redis import Redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise CountsUnreachable(
                "rate_limit_store names Redis and its client is missing: install wavegate[redis]"
            ) from error
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=_PATIENCE_SECONDS,
            socket_connect_timeout=_PATIENCE_SECONDS,
            # Once more, since a connection that was kept may have been closed by a restart.
            retry=Retry(NoBackoff(), 1),
        )

    def add(self, key: str, *, ends_at: int) -> int:
        """Count one more for ``key`` in the window that ends at ``ends_at`` (seconds since 1970), and tell how many.

        Raises:
            CountsUnreachable: Redis did not answer within a quarter of a second, twice.
        """
        from redis.exceptions import RedisError

        name = f"{_PREFIX}{key}:{ends_at}"
        try:
            with self._redis.pipeline(transaction=False) as both:
                both.incr(name)
                both.expireat(name, ends_at + _KEPT_SECONDS)
                used, _ = both.execute()
        except RedisError as error:
            raise CountsUnreachable(f"Redis does not count: {type(error).__name__}") from error
        return int(used)

    def close(self) -> None:
        """Close all idle connections."""
        self._redis.close()
