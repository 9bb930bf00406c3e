"""What a stock TUF client that is up to date fetches to learn that nothing is new."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater, Urllib3Fetcher

from cli.demo.product import Product
from tests.perf.measure import Result

REQUESTS_GOAL: Final = 2.0
BYTES_GOAL: Final = 400.0


class CountingFetcher(FetcherInterface):
    """The stock fetcher, with the body bytes of every request written down."""

    def __init__(self) -> None:
        self._inner = Urllib3Fetcher()
        self.requests: list[tuple[str, int]] = []

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.rpartition("/")[2]
        try:
            body = b"".join(self._inner.fetch(url))
        except DownloadHTTPError:
            self.requests.append((name, 0))
            raise
        self.requests.append((name, len(body)))
        yield body


def measure(folder: Path) -> list[Result]:
    with Product(folder) as product:
        product.start()
        artifact = folder / "artifact.bin"
        artifact.write_bytes(b"something to be had\n")
        product.publish("push", str(artifact), "--product", "idle", "--version", "1.0.0", person=None)

        def refresh() -> list[tuple[str, int]]:
            fetcher = CountingFetcher()
            updater = Updater(
                str(folder / "metadata"),
                product.metadata_url,
                target_dir=str(folder),
                target_base_url=product.targets_url,
                fetcher=fetcher,
                bootstrap=product.root.read_bytes(),
            )
            updater.refresh()
            assert updater.get_targetinfo("idle/1.0.0/any/artifact.bin") is not None
            return fetcher.requests

        (folder / "metadata").mkdir()
        refresh()
        idle = refresh()
    detail = ", ".join(f"{name}: {length}" for name, length in idle)
    return [
        Result("stock client, nothing new: requests", len(idle), REQUESTS_GOAL, "requests", detail),
        Result("stock client, nothing new: bytes", sum(length for _, length in idle), BYTES_GOAL, "bytes", detail),
    ]
