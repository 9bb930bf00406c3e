"""One bucket of an object store, S3, Google Cloud Storage or Azure, by the few operations that a repository needs.

Every failure is an OSError, as a disk's is, so that whoever writes a repository treats both alike: nothing is promised,
the same request may be sent again. A write whose answer was lost is looked up, never guessed.

Source: docs/adr/0060-the-bucket-is-the-truth.md
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from repo_signing.errors import StorageUnusable

SCHEMES: Final = ("s3", "gs", "az")
AT_ONCE: Final = 16  # requests under way for one repository
# Up to here a blob goes in one request that creates or fails; beyond it in parts, which no store creates atomically.
ONE_REQUEST: Final = 8 * 1024 * 1024
_PART: Final = 16 * 1024 * 1024  # with at most 10,000 parts: 156 GiB
_PARTS_AT_ONCE: Final = 4
_ANSWER_SECONDS: Final = 60
_CONNECT_SECONDS: Final = 5
_RETRIES: Final = 3

T = TypeVar("T")


class BucketFailed(OSError):
    """The store did not do what it was asked, or did not say so; ``strerror`` says what."""

    def __init__(self, told: str) -> None:
        super().__init__(errno.EIO, told)


class NotAsExpected(Exception):
    """An object is not the one that was to be replaced; nothing was written."""


@dataclass(frozen=True, slots=True)
class Content:
    """An object: its bytes, and what names this state of it to the store."""

    raw: bytes
    mark: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """What a store says of an object without giving it."""

    key: str
    length: int
    modified: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketAddress:
    """Where a bucket is. Credentials are never in it: they come from the provider's usual environment.

    Args:
        url: ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``az://container/prefix``; the prefix may be missing.
        endpoint: Of a store that is not the provider's own, such as ``https://s3.example.net``; empty: the provider's.
        region: For S3; empty: as the environment says.
        virtual_host: Name the bucket in the host and not in the path (S3).
        allow_http: Permit an endpoint without TLS.
    """

    url: str
    endpoint: str = ""
    region: str = ""
    virtual_host: bool = False
    allow_http: bool = False

    def place(self) -> tuple[str, str, str]:
        """Scheme, bucket and prefix; raises StorageUnusable."""
        parts = urlsplit(self.url)
        if parts.scheme not in SCHEMES or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
            # Never the whole: somebody may have put a secret into it.
            raise StorageUnusable(
                f"an address with the scheme {parts.scheme[:20]!r} names no bucket; expected s3://BUCKET[/PREFIX], "
                "gs://… or az://CONTAINER…, and credentials in the environment"
            )
        return parts.scheme, parts.netloc, parts.path.strip("/")

    def below(self, part: str) -> BucketAddress:
        """The address of a deeper prefix."""
        return BucketAddress(
            url=f"{self.url.rstrip('/')}/{part}",
            endpoint=self.endpoint,
            region=self.region,
            virtual_host=self.virtual_host,
            allow_http=self.allow_http,
        )


class Bucket:
    """The objects below one prefix. Threads may share it.

    All methods but :meth:`url` raise BucketFailed when the store does not answer, refuses the credentials, or fails.
    Keys are relative to the prefix.
    """

    def __init__(self, address: BucketAddress) -> None:
        self.address: Final = address
        self._store: Final = _opened(address)
        # Ceph up to 16 compares the name of a state with the quotes that HTTP puts around it, and never finds it equal.
        self._bare_marks = False

    def get(self, key: str, *, unless: Mapping[str, str] | None = None) -> Content | None:
        """An object, or None when there is none.

        With ``unless``, the mark of a state that is known, one that is still in that state is returned with that mark
        and no bytes.
        """
        import obstore
        from obstore.exceptions import NotModifiedError

        options: Any = {"if_none_match": unless["e_tag"]} if unless is not None and "e_tag" in unless else None
        try:
            found = obstore.get(self._store, key, options=options)
            raw = bytes(found.bytes())
        except NotModifiedError:
            assert unless is not None
            return Content(b"", unless)
        except FileNotFoundError:
            return None
        except Exception as error:
            raise _failed("read", key, error) from error
        return Content(raw, _mark(found.meta))

    def pieces(self, key: str, *, start: int, end: int) -> Iterator[bytes]:
        """The bytes of an object from ``start`` up to, not including, ``end``; raises FileNotFoundError at once."""
        import obstore

        try:
            answer = obstore.get(self._store, key, options={"range": (start, end)})
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "no such object", key) from None
        except Exception as error:
            raise _failed("read", key, error) from error
        return self._streamed(answer, key)

    def head(self, key: str) -> Entry | None:
        """What the store says of an object, or None when there is none."""
        import obstore

        try:
            return _entry(obstore.head(self._store, key))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise _failed("look at", key, error) from error

    def create(self, key: str, content: bytes, *, compare: bool = True) -> Mapping[str, str]:
        """Write an object that must be new; returns its mark.

        Raises:
            FileExistsError: There is one; it is untouched. With ``compare`` one that has these bytes is taken as
                written: the answer to our own first try may have been lost.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            return _mark(obstore.put(self._store, key, content, mode="create", use_multipart=False))
        except AlreadyExistsError:
            standing = self.get(key) if compare else None
            if standing is not None and standing.raw == content:
                return standing.mark
            raise FileExistsError(errno.EEXIST, "the bucket has it already", key) from None
        except Exception as error:
            raise _failed("write", key, error) from error

    def swap(self, key: str, content: bytes, base: Content) -> Mapping[str, str]:
        """Replace an object if it is still ``base``, atomically; returns the new mark.

        Raises:
            NotAsExpected: It is something else; it is untouched.
            StorageUnusable: The store does not replace conditionally.
        """
        for bare in (self._bare_marks, not self._bare_marks):
            mark = self._put_if(key, content, base.mark, bare=bare)
            if mark is not None:
                self._bare_marks = bare
                return mark
            standing = self.get(key)
            if standing is not None and standing.raw == content:
                return standing.mark  # written by the try whose answer was lost
            if standing is None or standing.raw != base.raw:
                raise NotAsExpected(key)
        raise StorageUnusable(
            f"the object store of {self.address.url} refuses to replace {key} although it is as expected; conditional "
            "writes (If-Match) are needed, use a store that has them"
        )

    def send(self, key: str, file: Path) -> None:
        """Write an object from a file, whatever stands there; for names that can hold only these bytes."""
        import obstore

        try:
            obstore.put(
                self._store,
                key,
                file,
                mode="overwrite",
                use_multipart=file.stat().st_size > ONE_REQUEST,
                chunk_size=_PART,
                max_concurrency=_PARTS_AT_ONCE,
            )
        except Exception as error:
            raise _failed("write", key, error) from error

    def copy(self, key: str, other: str) -> None:
        """Copy an object within the store; raises FileNotFoundError."""
        import obstore

        try:
            obstore.copy(self._store, key, other, overwrite=True)
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "no such object", key) from None
        except Exception as error:
            raise _failed("copy", key, error) from error

    def remove(self, key: str) -> None:
        """Remove an object; one that is gone already is none to remove."""
        import obstore

        try:
            obstore.delete(self._store, key)
        except FileNotFoundError:
            return
        except Exception as error:
            raise _failed("remove", key, error) from error

    def list(self, prefix: str) -> Iterator[Entry]:
        """Every object whose key begins with the folder ``prefix``. Slow with many: never on the way of a publish."""
        import obstore

        try:
            for page in obstore.list(self._store, prefix or None):
                for meta in page:
                    yield _entry(meta)
        except Exception as error:
            raise _failed("list", prefix, error) from error

    def url(self, key: str, seconds: int) -> str:
        """A URL that gives the object to anybody for so long; no request is made. Raises StorageUnusable."""
        import obstore

        try:
            signed: str = obstore.sign(self._store, "GET", key, timedelta(seconds=seconds))
        except Exception as error:
            raise StorageUnusable(
                f"no download URL can be signed for {self.address.url}: {_told(error)}; give credentials that can "
                "sign, or set target_downloads = `serve`"
            ) from error
        return signed

    def _put_if(self, key: str, content: bytes, mark: Mapping[str, str], *, bare: bool) -> Mapping[str, str] | None:
        import obstore
        from obstore.exceptions import PreconditionError

        expected: Any = {name: value.strip('"') if bare else value for name, value in mark.items()}
        try:
            return _mark(obstore.put(self._store, key, content, mode=expected, use_multipart=False))
        except (PreconditionError, FileNotFoundError):
            return None
        except Exception as error:
            raise _failed("replace", key, error) from error

    def _streamed(self, answer: Any, key: str) -> Iterator[bytes]:
        try:
            for piece in answer.stream(min_chunk_size=128 * 1024):
                yield bytes(piece)
        except Exception as error:
            raise _failed("read", key, error) from error


def _opened(address: BucketAddress) -> Any:
    try:
        from obstore.store import AzureStore, GCSStore, S3Store
    except ImportError as error:
        raise StorageUnusable(
            "buckets need the package obstore; install Wavegate with its extra `bucket`: pip install 'wavegate[bucket]'"
        ) from error
    scheme, bucket, prefix = address.place()
    client: Any = {
        "allow_http": address.allow_http,
        "timeout": f"{_ANSWER_SECONDS}s",
        "connect_timeout": f"{_CONNECT_SECONDS}s",
    }
    retry: Any = {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_ANSWER_SECONDS)}
    common: dict[str, Any] = {"prefix": prefix or None, "client_options": client, "retry_config": retry}
    makers: Mapping[str, Callable[[dict[str, Any]], Any]] = {
        "s3": lambda config: S3Store(bucket, config=config, **common),  # type: ignore[arg-type]
        "gs": lambda config: GCSStore(bucket, config=config, **common),  # type: ignore[arg-type]
        "az": lambda config: AzureStore(bucket, config=config, **common),  # type: ignore[arg-type]
    }
    try:
        return makers[scheme](_config(scheme, address))
    except Exception as error:
        raise StorageUnusable(f"the bucket {address.url} cannot be used: {_told(error)}") from error


def _config(scheme: str, address: BucketAddress) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if address.endpoint:
        config["base_url" if scheme == "gs" else "endpoint"] = address.endpoint
    if scheme == "s3":
        config["virtual_hosted_style_request"] = address.virtual_host
        if address.region:
            config["region"] = address.region
    return config


def _entry(meta: Any) -> Entry:
    return Entry(str(meta["path"]), int(meta["size"]), meta["last_modified"])


def _mark(meta: Any) -> Mapping[str, str]:
    return {name: str(meta[name]) for name in ("e_tag", "version") if meta.get(name)}


def _failed(what: str, key: str, error: Exception) -> BucketFailed:
    return BucketFailed(f"the bucket did not {what} {key}: {_told(error)}")


def _told(error: Exception) -> str:
    # What the library adds on further lines is its own inside; what a store answers begins with its markup.
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return first.partition(": <?xml")[0][:300]
