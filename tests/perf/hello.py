"""The yardstick of the API: a Flask view that answers always the same, on granian as ``publish serve`` runs it.

``python -m tests.perf.hello PORT THREADS``
"""

from __future__ import annotations

import multiprocessing
import sys

from flask import Flask, Response
from granian.constants import HTTPModes, Interfaces
from granian.server import Server


def application() -> Flask:
    app = Flask("hello")

    @app.get("/hello")
    def hello() -> Response:
        return Response(b'{"hello":"world"}', mimetype="application/json")

    return app


def main() -> None:
    multiprocessing.set_start_method("spawn", force=True)
    Server(
        "tests.perf.hello:application",
        factory=True,
        address="127.0.0.1",
        port=int(sys.argv[1]),
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        workers=1,
        blocking_threads=int(sys.argv[2]),
        log_enabled=False,
    ).serve()


if __name__ == "__main__":
    main()
