"""How a route is declared: its permission, its answers and its errors stand in one place, or it does not exist."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Final, Generic, TypeVar, cast, get_type_hints

import orjson
from flask import Response, request
from flask_openapi import APIBlueprint
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from api.asked import asked, extension, held
from api.auth.gate import Caller
from api.auth.permissions import SESSION_ONLY, Permission
from api.auth.rates import Policy
from api.auth.source import source_of
from api.codes import Kind, by_status, of_route
from api.errors import ApiError
from api.installation import Installation
from api.wiring import Shared, Wavegate

PREFIX: Final = "/api/v1"
MAX_PAGE: Final = 200
_MARK: Final = 12  # characters before the place in a cursor
_NO_FILTERS: Final = frozenset({"cursor", "limit", "total"})  # they may differ from page to page
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

    @classmethod
    @cache
    def model_json_schema(cls, *told: Any, **more: Any) -> dict[str, Any]:  # type: ignore[override]  # cached alike
        """Made once: the framework asks for a query's at every request, and it costs more than all else of a list."""
        return super().model_json_schema(*told, **more)


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

    @classmethod
    @cache
    def model_json_schema(cls, *told: Any, **more: Any) -> dict[str, Any]:  # type: ignore[override]  # cached alike
        """Made once: every route names it a dozen times, and that was a third of the server's start."""
        return super().model_json_schema(*told, **more)


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

    ``person``: by their own login, for it is about themselves; no API key. ``codes`` are the errors it may answer,
    ``media_types`` what it answers besides, or instead of, its JSON.
    """

    permission: Permission | None
    public: bool
    raw_body: bool
    shown_once: str | None = None
    body_limit: int | None = None
    policy: Policy = Policy.READS
    person: bool = False
    once: bool = False
    tagged: bool = False
    codes: tuple[str, ...] = ()
    media_types: tuple[str, ...] = ()

    @property
    def session_only(self) -> bool:
        """Whether an API key is refused whatever its role."""
        return self.person or self.permission in SESSION_ONLY


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
        policy: Policy | None = None,
        person: bool = False,
        once: bool | None = None,
        tagged: bool = False,
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
            body_limit: Bytes of the largest body, where the setting is too small by its nature; of a raw one, where
                it is no artifact.
            policy: What requests are counted as, where method and body do not tell.
            person: An API key is refused: the route is about whoever calls, by their own login.
            once: Whether an ``Idempotency-Key`` counts, whose answer is then kept for a day. By default it does for
                every POST that is not public: a login's answer is a secret, and a second login harms nobody.
            tagged: The view compares ``If-Match`` with what it changes (:func:`check_match`). Where nothing has an
                ``ETag`` that could be read before, the gate refuses every tag, and lets ``*`` pass.
            errors: Codes of the errors that this route raises itself; see ``api/codes.py`` for those of all.
        """
        declaration = Declaration(
            permission,
            public,
            raw_body,
            shown_once,
            body_limit,
            policy=policy or _policy(method, public=public, raw_body=raw_body),
            person=person,
            tagged=tagged,
            once=method == "POST" and not public if once is None else once,
        )
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
        extensions["x-session-only"] = declaration.session_only
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
                session_only=declaration.session_only,
                once=declaration.once,
                has_path="path" in hints,
                has_query=query is not None,
                has_cursor=query is not None and issubclass(query, PageQuery),
                has_body="body" in hints,
                raw_body=raw_body,
            )
            codes = of_route(kind, errors)
            responses.update({str(status): Error for status in by_status(codes)})
            self.declarations[name] = replace(declaration, codes=codes, media_types=tuple(media_types))
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


def installation() -> Installation:
    """All organisations of this server."""
    return cast("Installation", extension("wavegate"))


def shared() -> Shared:
    """What the organisations share: what a public route works with until it knows which of them is meant."""
    return installation().shared


def _schema_of(media_type: str) -> dict[str, str]:
    """Bytes, as OpenAPI tells them; JSON that is handed on as it is stored is at least an object."""
    is_json = media_type == "application/json" or media_type.endswith("+json")
    return {"type": "object"} if is_json else {"type": "string", "format": "binary"}


def services() -> Wavegate:
    """The wired product of this request's organisation: the caller's, on a public route the one that is meant.

    Raises:
        ApiError: 403 ``wrong_organization`` when a public route's ``/orgs/{org}`` names none, 400
            ``organization_required`` when it names nothing and there are several.
        OrganisationUnavailable: It cannot be served now.
    """
    here = held()
    found: Wavegate | None = here.get("wavegate")
    if found is None:
        found = here.wavegate = _organisation()
    return found


def serve_as(org: str) -> Wavegate:
    """Have a public route go on for the organisation that its token or password turned out to be of.

    Raises:
        ApiError: 403 ``wrong_organization`` when ``/orgs/{org}`` named another.
    """
    if named_organisation() not in {None, org}:
        raise wrong_organisation()
    held().wavegate = installation().organisation(org)
    return services()


def named_organisation() -> str | None:
    """What the request's path named as ``/orgs/{org}``, whether there is such an organisation or not."""
    named: str | None = asked().environ.get("wavegate.org")
    return named


def wrong_organisation() -> ApiError:
    """The refusal of another organisation; it does not tell whether that one exists."""
    return ApiError(403, "wrong_organization", "this credential belongs to another organisation")


def _organisation() -> Wavegate:
    if "caller" in held():
        return installation().organisation(caller().user.org)
    named = named_organisation()
    if named is None:
        known = installation().slugs()
        if len(known) != 1:
            raise ApiError(
                400, "organization_required", "there is not one organisation here; name yours as /api/v1/orgs/{org}/…"
            )
        return installation().organisation(known[0])
    found = installation().find(named)
    if found is None:
        raise wrong_organisation()
    return found


def caller() -> Caller:
    """Who is calling; the gate has let them in."""
    return cast("Caller", held().caller)


def source() -> str:
    """Where this request comes from, for what is counted by address."""
    return source_of(request, shared().settings.trusted_proxies)


def now() -> datetime:
    """The moment of this request, one for all it does."""
    here = held()
    moment: datetime | None = here.get("now")
    if moment is None:
        moment = here.now = datetime.now(UTC)
    return moment


def reply(answer: BaseModel | None, status: int = 200, *, tag: str | None = None) -> Response:
    """JSON of a model, with an ETag, by default of its bytes; no body for None."""
    if answer is None:
        return Response(status=204)
    body = answer.model_dump_json().encode()
    response = Response(body, status, content_type="application/json")
    response.set_etag(hashlib.sha256(body).hexdigest()[:32] if tag is None else tag)
    return response


def page(items: Sequence[Item], limit: int, key: Callable[[Item], str], total: int | None) -> Page[Item]:
    """Cut a page from ``limit + 1`` items asked for; a cursor names the last item shown."""
    shown = list(items[:limit])
    following = encode_cursor(key(shown[-1])) if len(items) > limit else None
    return Page(items=shown, next_cursor=following, total=total)


def reply_page(answer: Page[Any]) -> Response:
    """A page, with ``Link: rel="next"``."""
    counts = type(answer).model_fields.keys() - {"items", "next_cursor"}
    body = answer.model_dump(mode="json", exclude={name for name in counts if getattr(answer, name) is None})
    response = Response(orjson.dumps(body), mimetype="application/json")
    if answer.next_cursor is not None:
        query = {**request.args.to_dict(), "cursor": answer.next_cursor}
        pairs = "&".join(f"{key}={_quoted(value)}" for key, value in query.items())
        response.headers["Link"] = f'<{request.path}?{pairs}>; rel="next"'
    return response


def encode_cursor(position: str) -> str:
    """Make a place in the list of this request opaque; it is a place of no other list, filter or order."""
    return base64.urlsafe_b64encode(f"{_mark(position)}{position}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> str | None:
    """Read a cursor of this list; raises ApiError 400 ``invalid_cursor`` for anything else."""
    if cursor is None:
        return None
    try:
        position = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()[_MARK:]
    except (binascii.Error, UnicodeDecodeError, ValueError):
        position = ""
    if not position or encode_cursor(position) != cursor:
        raise no_cursor()
    return position


def decode_seq(cursor: str | None) -> int | None:
    """As :func:`decode_cursor`, where places are numbers of events."""
    position = decode_cursor(cursor)
    if position is not None and not position.isdecimal():
        raise no_cursor()
    return None if position is None else int(position)


def no_cursor() -> ApiError:
    """The refusal of a cursor that is none of this list."""
    message = "the cursor is not one of this list with these filters and this order; begin again without a cursor"
    return ApiError(400, "invalid_cursor", message)


def check_match(current: BaseModel) -> None:
    """Refuse with 412 when the request's ``If-Match`` does not name the representation as it is now."""
    if request.if_match and not request.if_match.contains(reply(current).get_etag()[0] or ""):
        raise ApiError(412, "precondition_failed", "it was changed since you read it; read it again and decide afresh")


def check_if_match(declaration: Declaration, *, required: bool) -> None:
    """Refuse a PATCH or DELETE whose ``If-Match`` is missing where it is required, or names what has no tags.

    Raises:
        ApiError: 428 ``precondition_required``, 412 ``precondition_failed``.
    """
    if asked().method not in {"PATCH", "DELETE"} or declaration.raw_body:
        return
    if required and not request.if_match:
        raise ApiError(
            428,
            "precondition_required",
            "If-Match is missing; send the ETag that you read, or * to write whatever stands there",
        )
    if request.if_match and not request.if_match.star_tag and not declaration.tagged:
        raise ApiError(412, "precondition_failed", "what is here has no ETag; send If-Match: * or none")


def _mark(position: str) -> str:
    # No secret: whoever makes a cursor up sees the same items as who pages there. It catches mix-ups and damage.
    told = sorted((name, value) for name, value in request.args.items(multi=True) if name not in _NO_FILTERS)
    return hashlib.sha256(repr((request.path, told, position)).encode()).hexdigest()[:_MARK]


def _policy(method: str, *, public: bool, raw_body: bool) -> Policy:
    if public:
        return Policy.LOGINS
    if raw_body:
        return Policy.UPLOADS
    return Policy.READS if method == "GET" else Policy.WRITES


def _quoted(value: str) -> str:
    from urllib.parse import quote

    return quote(value, safe="")
