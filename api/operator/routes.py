"""How a route is declared: its permission, its answers and its errors stand in one place, or it does not exist."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Generic, TypeVar, cast, get_type_hints

import orjson
from flask import Response, current_app, g, request
from flask_openapi import APIBlueprint
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from api.auth.gate import Caller
from api.auth.permissions import SESSION_ONLY, Permission
from api.codes import Kind, by_status, of_route
from api.errors import ApiError
from api.wiring import Wavegate

PREFIX: Final = "/api/v1"
MAX_PAGE: Final = 200
BYTES: Final = "application/octet-stream"

View = TypeVar("View", bound=Callable[..., Response])
Item = TypeVar("Item")


def _in_utc(told: datetime) -> datetime:
    try:
        return told.astimezone(UTC)
    except OverflowError:
        # Zones move the first and the last day of the calendar out of it.
        raise ValueError("in UTC it is no date of the years 1 to 9999") from None


# A time that a caller names, whatever zone it is told in; everything behind the routes is in UTC.
Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class Body(BaseModel):
    """A request body or query; a field nobody knows is an error, not a guess."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)


class ErrorDetail(BaseModel):
    """Where in the request something is wrong, and what."""

    loc: str
    message: str


class ErrorBody(BaseModel):
    """``code`` is stable, ``message`` is for people and may change."""

    code: str
    message: str
    request_id: str
    permission: str | None = None
    details: list[ErrorDetail] | None = None


class Error(BaseModel):
    """The one shape of every error."""

    error: ErrorBody


class Page(BaseModel, Generic[Item]):
    """One page of a list; ``next_cursor`` is null on the last."""

    items: list[Item]
    next_cursor: str | None = None
    total: int | None = None


class PageQuery(Body):
    """How much of a list is wanted."""

    limit: int = Field(50, ge=1, le=MAX_PAGE, description="items on a page")
    cursor: str | None = Field(None, max_length=400, description="`next_cursor` of the page before")
    total: bool = Field(False, description="count all items too")


class IdPath(BaseModel):
    """A resource named in the path."""

    id: str = Field(max_length=200, description="its id, or its name where names are unique")


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a route demands. ``permission`` None and ``public`` False means: any signed-in caller.

    ``codes`` are the errors it may answer, ``media_types`` what it answers besides, or instead of, its JSON.
    """

    permission: Permission | None
    public: bool
    raw_body: bool
    shown_once: str | None = None
    body_limit: int | None = None
    codes: tuple[str, ...] = ()
    media_types: tuple[str, ...] = ()

    @property
    def session_only(self) -> bool:
        """Whether an API key is refused whatever its role."""
        return self.permission in SESSION_ONLY


class Routes(APIBlueprint):
    """A blueprint whose every route declares who may call it."""

    def __init__(self, name: str, tag: str) -> None:
        super().__init__(name, __name__, url_prefix=PREFIX, abp_tags=[{"name": tag}])
        self.declarations: dict[str, Declaration] = {}

    def on(
        self,
        method: str,
        rule: str,
        answer: type[BaseModel] | None,
        *,
        permission: Permission | None = None,
        public: bool = False,
        status: int = 200,
        also: Sequence[int] = (),
        accepted: type[BaseModel] | None = None,
        raw_body: bool = False,
        takes: Sequence[str] = (BYTES,),
        media_types: Sequence[str] = (),
        shown_once: str | None = None,
        body_limit: int | None = None,
        errors: Collection[str] = (),
    ) -> Callable[[View], View]:
        """Declare ``method rule``.

        Args:
            answer: Model of the JSON answer; None for no body, or for raw bytes when ``media_types`` are given.
            permission: What the caller must hold.
            public: The route identifies its caller by something of its own (a password, an enrolment token).
            also: Further statuses with the same answer.
            accepted: Answer of status 202, when the change waits for somebody else.
            raw_body: The body is bytes, streamed to the view and not read before.
            takes: Media types of a raw body; the bytes are looked at, and not the header.
            media_types: What is answered instead of JSON, or besides it where the caller asks for it.
            shown_once: Field of the answer that holds a secret, kept nowhere.
            body_limit: Bytes of the largest JSON body, where the setting is too small by its nature.
            errors: Codes of the errors that this route raises itself; see ``api/codes.py`` for those of all.
        """
        responses: dict[str, Any] = {}
        for code in (status, *also):
            if answer is not None:
                responses[str(code)] = answer
            elif media_types:
                content = {one: {"schema": _schema_of(one)} for one in media_types}
                responses[str(code)] = {"description": "the stored bytes", "content": content}
            else:
                responses[str(code)] = {"description": "done"}
        if accepted is not None:
            responses["202"] = accepted
        extensions: dict[str, Any] = {
            "x-permission": permission.value if permission else "public" if public else "signed-in"
        }
        extensions["x-session-only"] = permission in SESSION_ONLY
        security: list[dict[str, list[Any]]] = [] if public else [{"bearer": []}, {"session": []}]
        options: dict[str, Any] = {"openapi_extensions": extensions, "security": security, "responses": responses}
        if raw_body:
            options["request_body"] = {
                "required": True,
                "content": {one: {"schema": _schema_of(one)} for one in takes},
            }

        def declare(view: View) -> View:
            summary = (view.__doc__ or "").strip().split("\n")[0].rstrip(".")
            name = f"{self.name}.{view.__name__}"
            hints = get_type_hints(view)
            query = hints.get("query")
            kind = Kind(
                method=method,
                public=public,
                permission=permission is not None,
                session_only=permission in SESSION_ONLY,
                has_path="path" in hints,
                has_query=query is not None,
                has_cursor=query is not None and issubclass(query, PageQuery),
                has_body="body" in hints,
                raw_body=raw_body,
            )
            codes = of_route(kind, errors)
            responses.update({str(status): Error for status in by_status(codes)})
            self.declarations[name] = Declaration(
                permission, public, raw_body, shown_once, body_limit, codes, tuple(media_types)
            )
            register = getattr(super(Routes, self), method.lower())
            register(
                rule.replace("{", "<").replace("}", ">"),
                summary=summary,
                operation_id=view.__name__,
                endpoint=view.__name__,
                **options,
            )(view)
            return view

        return declare


def _schema_of(media_type: str) -> dict[str, str]:
    """Bytes, as OpenAPI tells them; JSON that is handed on as it is stored is at least an object."""
    is_json = media_type == "application/json" or media_type.endswith("+json")
    return {"type": "object"} if is_json else {"type": "string", "format": "binary"}


def services() -> Wavegate:
    """The wired product behind this request."""
    return cast("Wavegate", current_app.extensions["wavegate"])


def caller() -> Caller:
    """Who is calling; the gate has let them in."""
    return cast("Caller", g.caller)


def now() -> datetime:
    """The moment of this request, one for all it does."""
    moment: datetime | None = g.get("now")
    if moment is None:
        moment = g.now = datetime.now(UTC)
    return moment


def reply(answer: BaseModel | None, status: int = 200) -> Response:
    """JSON of a model, with an ETag; no body for None."""
    if answer is None:
        return Response(status=204)
    body = answer.model_dump_json().encode()
    response = Response(body, status, mimetype="application/json")
    response.set_etag(hashlib.sha256(body).hexdigest()[:32])
    return response


def page(items: Sequence[Item], limit: int, key: Callable[[Item], str], total: int | None) -> Page[Item]:
    """Cut a page from ``limit + 1`` items asked for; a cursor names the last item shown."""
    shown = list(items[:limit])
    following = encode_cursor(key(shown[-1])) if len(items) > limit else None
    return Page(items=shown, next_cursor=following, total=total)


def reply_page(answer: Page[Any]) -> Response:
    """A page, with ``Link: rel="next"``."""
    body = answer.model_dump(mode="json", exclude={"total"} if answer.total is None else None)
    response = Response(orjson.dumps(body), mimetype="application/json")
    if answer.next_cursor is not None:
        query = {**request.args.to_dict(), "cursor": answer.next_cursor}
        pairs = "&".join(f"{key}={_quoted(value)}" for key, value in query.items())
        response.headers["Link"] = f'<{request.path}?{pairs}>; rel="next"'
    return response


def encode_cursor(position: str) -> str:
    """Make a place in a list opaque."""
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> str | None:
    """Read a cursor of ours; raises ApiError 400 ``invalid_cursor`` for anything else."""
    if cursor is None:
        return None
    try:
        position = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        position = ""
    if not position or not position.isprintable() or encode_cursor(position) != cursor:
        raise ApiError(400, "invalid_cursor", "the cursor is not one of ours; begin again without a cursor")
    return position


def check_match(current: BaseModel) -> None:
    """Refuse with 412 when the request's ``If-Match`` does not name the representation as it is now."""
    if request.if_match and not request.if_match.contains(reply(current).get_etag()[0] or ""):
        raise ApiError(412, "precondition_failed", "it was changed since you read it; read it again and decide afresh")


def _quoted(value: str) -> str:
    from urllib.parse import quote

    return quote(value, safe="")
