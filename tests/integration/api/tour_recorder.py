"""Calls routes, keeps the first whole exchange of each, and replaces what no two runs have in common."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from werkzeug.test import TestResponse

import api.examples
from tests.integration.api.conftest import Home

EXAMPLES: Final = Path(api.examples.__file__).parent
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LONGEST: Final = 2_000  # characters of base64 or text that an example shows of what is longer


class Recorder:
    """``told`` is, by operation id, the first exchange: parameters, request, and the answer of each status."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.told: dict[str, dict[str, Any]] = {}
        self._urls = home.app.url_map.bind("localhost")

    def get(self, path: str, **more: Any) -> Any:
        return self._go("GET", path, **more)

    def post(self, path: str, body: object = None, **more: Any) -> Any:
        return self._go("POST", path, body, **more)

    def patch(self, path: str, body: object = None, **more: Any) -> Any:
        return self._go("PATCH", path, body, **more)

    def put(self, path: str, data: bytes | None = None, **more: Any) -> Any:
        return self._go("PUT", path, more.pop("body", None), **({} if data is None else {"data": data}), **more)

    def delete(self, path: str, **more: Any) -> Any:
        return self._go("DELETE", path, **more)

    def _go(self, method: str, path: str, body: object = None, **more: Any) -> Any:
        answer = self.home.call(method, path, body, **more)
        assert answer.status_code < 300, (method, path, answer.status_code, answer.text)
        self._keep(method, path, body if body is not None else more.get("data"), more.get("headers", {}), answer)
        told = answer.get_json() if answer.mimetype == "application/json" else None
        answer.close()  # a file that was sent is open until then
        return told

    def _keep(self, method: str, path: str, body: object, headers: dict[str, str], answer: TestResponse) -> None:
        endpoint, in_path = self._urls.match(f"/api/v1{urlsplit(path).path}", method)
        told = self.told.setdefault(endpoint.partition(".")[2], {"parameters": {}, "answers": {}})
        status = str(answer.status_code)
        if status in told["answers"] or (status == "204" and told["parameters"]):
            return
        if not told["answers"]:
            asked = dict(parse_qsl(urlsplit(path).query))
            told["parameters"] = {name: _typed(value) for name, value in {**in_path, **asked}.items()}
            if "Content-Range" in headers:
                told["parameters"]["Content-Range"] = headers["Content-Range"]
            if body is not None:
                told["request"] = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
        if answer.data:
            told["answers"][status] = answer.get_json() if answer.is_json else answer.text


def _typed(value: str) -> Any:
    if value in {"true", "false"}:
        return value == "true"
    return int(value) if value.isdecimal() else value


def settled(told: dict[str, Any]) -> dict[str, Any]:
    """The same exchanges with ids, times, digests, keys and ports that every run writes alike."""
    text = json.dumps(told, ensure_ascii=False)
    text = re.sub(r"\b(wg[a-z]_)[A-Za-z0-9_-]{20,}", r"\1EXAMPLE", text)
    text = re.sub(r'"prefix": "wgk_[^"]*"', '"prefix": "wgk_EXAMPL"', text)
    text = re.sub(r"whsec_[A-Za-z0-9+/=]{20,}", "whsec_EXAMPLE", text)
    text = re.sub(r"secret=[A-Z2-7]{16,}", "secret=EXAMPLE", text)
    text = re.sub(r"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", r"-----BEGIN \1-----\\n…\\n-----END \1-----", text)
    text = _numbered(text, r"\b([a-z]{3})_[0-9A-HJKMNP-TV-Z]{26}\b", _ulid)
    text = _numbered(text, r"(?<![0-9a-f])()[0-9a-f]{128}(?![0-9a-f])", lambda _, n: f"{n:0128x}")
    text = _numbered(text, r"(?<![0-9a-f])()[0-9a-f]{64}(?![0-9a-f])", lambda _, n: f"{n:064x}")
    text = re.sub(r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", "2026-11-20T09:30:00Z", text)
    text = re.sub(r'("(?:expires_in_seconds|took_ms)": )\d+', r"\g<1>86000", text)
    found: dict[str, Any] = json.loads(text)
    return {name: _short(one) for name, one in sorted(found.items())}


def _numbered(text: str, pattern: str, shown: Any) -> str:
    """Replace each value by one that tells only which of its kind it is, in the order of appearance."""
    seen: dict[str, str] = {}
    counts: dict[str, int] = {}

    def one(match: re.Match[str]) -> str:
        whole, kind = match[0], match[1]
        if whole not in seen:
            counts[kind] = counts.get(kind, 0) + 1
            seen[whole] = shown(kind, counts[kind])
        return seen[whole]

    return re.sub(pattern, one, text)


def _ulid(kind: str, number: int) -> str:
    digits = "".join(_CROCKFORD[number >> shift & 31] for shift in (10, 5, 0))
    return f"{kind}_01K9N0ZQ3V8M4S2T6W7X9Y0{digits}"


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _short(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_short(one) for one in value[:3]]
    if isinstance(value, str) and len(value) > _LONGEST:
        return "…"
    return value
