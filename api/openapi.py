"""The OpenAPI 3.1 document: what FastAPI finds in the routes, completed from the policies and the table of errors.

Routes state a summary, their models and the errors that are theirs alone; everything that follows from the conventions
(security, common errors, headers, readable operation ids) is added here, the same way everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts

from api.auth.policy import Policy, policies
from api.errors import LEGACY_JSON, PROBLEM_JSON, ApiError, ErrorCode, envelope
from api.openapi_errors import Facts, codes
from api.schemas.errors import ErrorEnvelope, LegacyError, Problem

Json = dict[str, Any]

LICENCE = {"name": "Apache License 2.0", "identifier": "Apache-2.0"}
SCHEMES = ("Bearer", "ApiKey", "Session")
REQUEST_ID = "req_0123456789abcdef01234567"
_SCHEMA = "#/components/schemas/"
_NO_PARAMETERS = frozenset({"accept", "authorization", "content-type"})  # OpenAPI describes these by other means
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch")

_DESCRIPTION = """\
Type a prompt, hear the music while it is being made.

**Credentials.** An API key or an access token in `Authorization: Bearer …`, an API key in `X-API-Key`, or a browser's
session. On a server in development, requests from its own machine need none.

**Errors.** Every answer that is no success carries the envelope `ErrorEnvelope`; `error.code` is stable and listed at
[/errors](/errors). `Accept: application/problem+json` asks for RFC 9457 documents instead. `X-Request-ID` names the
request in the server's log.

**Limits.** `quota_exceeded`: wait until the window ends. `concurrency_limit_exceeded`: let a generation finish.
`rate_limited`: fewer requests per second. `system_overloaded`: everybody waits. All come with `Retry-After`.

**Idempotency.** With an `Idempotency-Key` the same request can be sent again at any time within 24 hours: it is done
once, and the first answer comes again with `Idempotent-Replayed: true`.

**Versions.** `/api/v1/…`, or the same addresses without that prefix and `Accept: application/vnd.tutti.v1+json`. What
is deprecated says so in `Deprecation` (RFC 9745) and `Sunset` (RFC 8594).
"""

_TAGS = {
    "accounts": "Accounts, logins, API keys, usage, export and erasure",
    "generations": "Making music",
    "gallery": "Finished tracks",
    "uploads": "Audio that clients bring",
    "models": "What can be asked for",
    "webhooks": "Being told of events",
    "streams": "Live events over WebSocket",
    "operations": "Health, version and counters of this server",
}
_HEADERS: dict[str, tuple[str, str]] = {
    "X-Request-ID": ("string", "Names this request in the server's log"),
    "X-Error-Code": ("string", "The envelope's code"),
    "Retry-After": ("integer", "Seconds to wait"),
    "X-RateLimit-Limit": ("integer", "Requests that the account's window holds"),
    "X-RateLimit-Remaining": ("integer", "Requests that are left in it"),
    "X-RateLimit-Reset": ("integer", "When there is room again, as Unix time in seconds"),
    "RateLimit": ("string", "The same as in draft-ietf-httpapi-ratelimit-headers"),
    "RateLimit-Policy": ("string", "The policy behind it"),
    "Deprecation": ("string", "RFC 9745: since when something that this request uses is deprecated"),
    "Sunset": ("string", "RFC 8594: when it may stop working"),
    "WWW-Authenticate": ("string", "How to authenticate"),
}
_RATE_HEADERS = tuple(name for name in _HEADERS if "RateLimit" in name)


def install(app: FastAPI, public_url: str | None = None) -> None:
    """Make the application's document the completed one.

    Args:
        app: with all of its routes.
        public_url: where clients reach the API; None: wherever they found the document.

    Raises:
        PolicyError: when the document is first asked for, if a route has no policy.
    """

    def document() -> Json:
        if app.openapi_schema is None:
            app.openapi_schema = build(app, public_url)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def build(app: FastAPI, public_url: str | None = None) -> Json:
    """The whole document."""
    document = get_openapi(
        title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes, webhooks=app.webhooks.routes
    )
    document["info"] |= {"license": LICENCE, "summary": "Music from a prompt, streamed while it is made"}
    document["servers"] = [{"url": public_url or "/", "description": "This server"}]
    found = policies(app)
    names = {
        (method, route.path): route.name for route in iter_route_contexts(app.routes) for method in route.methods or ()
    }
    for path, method, operation in operations(document):
        key = (method.upper(), path)
        _complete(operation, Facts.of(*key, found[key], operation), str(names[key]))
    for item in document.get("webhooks", {}).values():
        for operation in item.values():
            # What receivers answer is theirs; the credentials of this API mean nothing to them.
            operation["responses"].pop("422", None)
            operation["security"] = []
    _add_components(document)
    used = {tag for _, _, operation in operations(document) for tag in operation.get("tags", ())}
    document["tags"] = [{"name": name, "description": text} for name, text in _TAGS.items() if name in used]
    return document


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Path, method (in small letters) and operation object."""
    for path, item in document["paths"].items():
        yield from ((path, method, item[method]) for method in _METHODS if method in item)


def operation_id(tag: str, name: str, method: str = "GET") -> str:
    """``webhooks``, ``list_webhooks`` → ``webhooks_list``: the tag, then the words that it does not say."""
    said = {tag, tag.removesuffix("s")}
    rest = [word for word in name.split("_") if word not in said]
    return "_".join([tag, *(rest or [name]), *(["head"] if method == "HEAD" else [])])


def _complete(operation: Json, facts: Facts, name: str) -> None:
    operation["operationId"] = operation_id(operation["tags"][0], name, facts.method)
    operation["security"] = _security(facts.policy)
    if needs := _needs(facts.policy):
        operation["description"] = "\n\n".join(filter(None, [operation.get("description"), needs]))
    if "parameters" in operation:
        operation["parameters"] = [one for one in operation["parameters"] if one["name"].lower() not in _NO_PARAMETERS]
    responses: Json = operation["responses"]
    stated = [code for status, response in responses.items() for code in _stated(status, response)]
    kept = {status: response for status, response in responses.items() if status < "4"}
    limited = () if facts.policy.public else _RATE_HEADERS
    for response in kept.values():
        response["headers"] = _header_refs("X-Request-ID", *limited, "Deprecation", "Sunset") | response.get(
            "headers", {}
        )
    operation["responses"] = kept | _error_responses(codes(facts, stated), limited)


def _security(policy: Policy) -> list[Json]:
    scopes = sorted(scope.value for scope in policy.scopes)
    return [] if policy.public else [{scheme: scopes} for scheme in SCHEMES]


def _needs(policy: Policy) -> str:
    scopes = ", ".join(f"`{scope.value}`" for scope in sorted(policy.scopes))
    needs = [
        f"Scope: {scopes}." if scopes else "",
        f"Role: `{policy.role.value}`." if policy.role.value != "user" else "",
    ]
    return " ".join(filter(None, needs))


def _stated(status: str, response: Json) -> list[ErrorCode]:
    """The codes behind ``error_responses`` of a route: the names of its examples."""
    if not re.fullmatch("[45]..", status):
        return []
    examples = response.get("content", {}).get("application/json", {}).get("examples", {})
    return [code for code in ErrorCode if code.value in examples]


def _error_responses(found: Iterable[ErrorCode], limited: tuple[str, ...]) -> Json:
    by_status: dict[int, list[ErrorCode]] = {}
    for code in found:
        by_status.setdefault(code.status, []).append(code)
    errors = {str(status): _error_response(members, limited) for status, members in sorted(by_status.items())}
    return errors | {"default": {"$ref": "#/components/responses/Error"}}


def _error_response(members: list[ErrorCode], limited: tuple[str, ...]) -> Json:
    headers = ["X-Request-ID", "X-Error-Code", *limited]
    headers += ["Retry-After"] if any(code.retryable for code in members) else []
    headers += ["WWW-Authenticate"] if members[0].status == 401 else []
    return {
        "description": "\n".join(f"- `{code.value}`: {code.meaning}" for code in members),
        "headers": _header_refs(*headers),
        "content": _error_content({code.value: {"$ref": f"#/components/examples/{code.value}"} for code in members}),
    }


def _error_content(examples: Json) -> Json:
    return {
        "application/json": {"schema": {"$ref": f"{_SCHEMA}ErrorEnvelope"}}
        | ({"examples": examples} if examples else {}),
        PROBLEM_JSON: {"schema": {"$ref": f"{_SCHEMA}Problem"}},
        LEGACY_JSON: {"schema": {"$ref": f"{_SCHEMA}LegacyError"}},
    }


def _header_refs(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _add_components(document: Json) -> None:
    components: Json = document.setdefault("components", {})
    schemas: Json = components.setdefault("schemas", {})
    for model in (ErrorEnvelope, Problem, LegacyError):
        schema = model.model_json_schema(ref_template=_SCHEMA + "{model}")
        schemas |= schema.pop("$defs", {}) | {model.__name__: schema}
    # FastAPI's own error bodies, which no handler here sends.
    kept = {name: schema for name, schema in schemas.items() if name not in ("HTTPValidationError", "ValidationError")}
    components["schemas"] = dict(sorted(kept.items()))
    components["headers"] = {
        name: {"description": text, "schema": {"type": kind}} for name, (kind, text) in _HEADERS.items()
    }
    components["examples"] = {
        code.value: {"summary": code.value.replace("_", " "), "value": envelope(ApiError(code), REQUEST_ID)}
        for code in ErrorCode
    }
    components["responses"] = {
        "Error": {
            "description": "Any other error",
            "headers": _header_refs("X-Request-ID", "X-Error-Code"),
            "content": _error_content({}),
        }
    }
