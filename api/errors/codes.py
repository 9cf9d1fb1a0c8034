"""The codes clients may rely on: the one place where a code, its status and its meaning are written down."""

from __future__ import annotations

from enum import StrEnum


class ErrorCode(StrEnum):
    """The codes clients may rely on. Each member carries its status, kind and what it means.

    Attributes:
        status: HTTP status.
        kind: the envelope's ``type``: whose turn it is to act.
        retryable: the same request may succeed later.
        meaning: what happened and what to do, for people.
    """

    status: int
    kind: str
    retryable: bool
    meaning: str

    def __new__(cls, code: str, status: int, kind: str, retryable: bool, meaning: str) -> ErrorCode:
        member = str.__new__(cls, code)
        member._value_ = code
        member.status, member.kind, member.retryable, member.meaning = status, kind, retryable, meaning
        return member

    INVALID_PARAMETER = (
        "invalid_parameter", 422, "invalid_request", False,
        "A parameter is missing, unknown, of the wrong type or out of range. `param` names it: mend it and send again.",
    )  # fmt: skip
    MALFORMED_BODY = (
        "malformed_body", 422, "invalid_request", False,
        "The body is no JSON object. Send one, in UTF-8, with Content-Type: application/json.",
    )  # fmt: skip
    NOT_ACCEPTABLE = (
        "not_acceptable", 406, "invalid_request", False,
        "No audio format made here is among those in the Accept header. Ask for one of them, or name it in `format`.",
    )  # fmt: skip
    PAYLOAD_TOO_LARGE = (
        "payload_too_large", 413, "invalid_request", False,
        "The request's body is larger than this server reads. Send a smaller one.",
    )  # fmt: skip
    MODEL_NOT_FOUND = (
        "model_not_found", 404, "not_found", False,
        "No model of that id is served here. GET /api/v1/models lists those that are.",
    )  # fmt: skip
    NOT_FOUND = (
        "not_found", 404, "not_found", False,
        "Nothing lives at this address. GET /openapi.json lists what does.",
    )  # fmt: skip
    METHOD_NOT_ALLOWED = (
        "method_not_allowed", 405, "invalid_request", False,
        "This address does not take this method. The Allow header says which it takes.",
    )  # fmt: skip
    REQUEST_REFUSED = (
        "request_refused", 400, "invalid_request", False,
        "The request can not be served as it is.",
    )  # fmt: skip
    SYSTEM_OVERLOADED = (
        "system_overloaded", 503, "overloaded", True,
        "Every place is taken and the queue is full. Wait for as many seconds as Retry-After says.",
    )  # fmt: skip
    NOT_READY = (
        "not_ready", 503, "unavailable", True,
        "Something this server depends on is not ready. `details.dependencies` names it.",
    )  # fmt: skip
    MODEL_UNAVAILABLE = (
        "model_unavailable", 503, "unavailable", True,
        "The model's engine has stopped and is being replaced. Send the request again in a moment.",
    )  # fmt: skip
    REPLICA_LOST = (
        "replica_lost", 503, "unavailable", True,
        "The replica that made this audio went away. Send the request again; with the same seed the music is the same.",
    )  # fmt: skip
    GENERATION_FAILED = (
        "generation_failed", 500, "server_error", True,
        "This generation failed; others were not touched. Send it again; if it fails again, report the request id.",
    )  # fmt: skip
    INTERNAL_ERROR = (
        "internal_error", 500, "server_error", False,
        "This is a bug in the server. Report it with the request id.",
    )  # fmt: skip
    UNSUPPORTED_VERSION = (
        "unsupported_version", 406, "invalid_request", False,
        "No such version of the API is served here. `details.available` lists those that are.",
    )  # fmt: skip
    GATEWAY_UNAVAILABLE = (
        "gateway_unavailable", 503, "unavailable", True,
        "No gateway answers. Send the request again in a moment; with the same Idempotency-Key nothing is made twice.",
    )  # fmt: skip
    REQUEST_TIMEOUT = (
        "request_timeout", 504, "unavailable", True,
        "The answer did not come in time. Send the request again; with the same Idempotency-Key nothing is made twice.",
    )  # fmt: skip
    # Accounts.
    UNAUTHENTICATED = (
        "unauthenticated", 401, "authentication", False,
        "No credential came with the request. Send an access token or an API key in the Authorization header.",
    )  # fmt: skip
    INVALID_CREDENTIALS = (
        "invalid_credentials", 401, "authentication", False,
        "This credential is not valid here. Check it, or log in again; a lost API key can only be replaced.",
    )  # fmt: skip
    CREDENTIALS_EXPIRED = (
        "credentials_expired", 401, "authentication", False,
        "This credential has expired. Refresh the access token, log in again, or make a new API key.",
    )  # fmt: skip
    CREDENTIALS_REVOKED = (
        "credentials_revoked", 401, "authentication", False,
        "This credential was revoked. Log in again, or make a new API key.",
    )  # fmt: skip
    CREDENTIAL_IN_URL = (
        "credential_in_url", 400, "authentication", False,
        "A credential stood in the URL, where logs keep it. Send it in a header, and replace it: take it as leaked.",
    )  # fmt: skip
    PERMISSION_DENIED = (
        "permission_denied", 403, "authentication", False,
        "The credential is valid, but lacks a scope or a role. `details` names it: use a credential that has it.",
    )  # fmt: skip
    CSRF_FAILED = (
        "csrf_failed", 403, "authentication", False,
        "A request with a session cookie must come from this site and carry its token in X-CSRF-Token.",
    )  # fmt: skip
    ACCOUNT_SUSPENDED = (
        "account_suspended", 403, "authentication", False,
        "This account is suspended. Ask whoever runs this server.",
    )  # fmt: skip
    EMAIL_TAKEN = (
        "email_taken", 409, "conflict", False,
        "An account with this email exists. Log in, or register with another one.",
    )  # fmt: skip
    ACCOUNT_NOT_FOUND = (
        "account_not_found", 404, "not_found", False,
        "There is no account of that id or email. `tutti admin users list` lists those there are.",
    )  # fmt: skip
    API_KEY_NOT_FOUND = (
        "api_key_not_found", 404, "not_found", False,
        "This account has no API key of that id. GET /api/v1/user/api-keys lists those it has.",
    )  # fmt: skip
    API_KEY_INACTIVE = (
        "api_key_inactive", 409, "conflict", False,
        "This API key has expired, was revoked or has a successor, so it cannot be rotated. Make a new one.",
    )  # fmt: skip
    LIMIT_REACHED = (
        "limit_reached", 409, "conflict", False,
        "The account holds as many of these as it may. Remove one that is no longer used.",
    )  # fmt: skip
    # Webhooks.
    WEBHOOK_NOT_FOUND = (
        "webhook_not_found", 404, "not_found", False,
        "This account has no webhook endpoint or delivery of that id. GET /api/v1/webhooks lists its endpoints.",
    )  # fmt: skip
    WEBHOOK_URL_REFUSED = (
        "webhook_url_refused", 422, "invalid_request", False,
        "Webhooks can not be sent to this address. Give a public https address; the message says what is wrong.",
    )  # fmt: skip
    WEBHOOK_CONFLICT = (
        "webhook_conflict", 409, "conflict", False,
        "The webhook is not in a state that allows this. The message says what to do first.",
    )  # fmt: skip
    QUOTA_EXCEEDED = (
        "quota_exceeded", 429, "quota", True,
        "The tier's allowance for this window is used up. Wait until `details.reset_at`, or move to a larger tier.",
    )  # fmt: skip
    CONCURRENCY_LIMIT_EXCEEDED = (
        "concurrency_limit_exceeded", 429, "concurrency", True,
        "As many generations of this account are under way as its tier allows. Wait for one to end, or cancel one.",
    )  # fmt: skip
    RATE_LIMITED = (
        "rate_limited", 429, "rate_limit", True,
        "Requests come faster than allowed. Wait for as many seconds as Retry-After says, then go on more slowly.",
    )  # fmt: skip
    IDEMPOTENCY_KEY_REUSED = (
        "idempotency_key_reused", 422, "invalid_request", False,
        "This Idempotency-Key was sent before with another request. Make a new key for every new request.",
    )  # fmt: skip
    IDEMPOTENCY_IN_FLIGHT = (
        "idempotency_in_flight", 409, "conflict", True,
        "The first request with this Idempotency-Key is still under way. Send it again after Retry-After seconds.",
    )  # fmt: skip
    # Stored audio.
    AUDIO_NOT_FOUND = (
        "audio_not_found", 404, "not_found", False,
        "This account has no track or upload of that id. GET /api/v1/audio lists its tracks; uploads expire.",
    )  # fmt: skip
    AUDIO_NOT_READY = (
        "audio_not_ready", 409, "conflict", False,
        "This track has no finished audio. Wait until it has succeeded; one that failed or was cancelled never has.",
    )  # fmt: skip
    TRACK_BUSY = (
        "track_busy", 409, "conflict", True,
        "The track is still being made and can not be removed. Cancel its generation first, or wait for its end.",
    )  # fmt: skip
    RANGE_NOT_SATISFIABLE = (
        "range_not_satisfiable", 416, "invalid_request", False,
        "The Range lies behind the end of the file. `details.size` is its size in bytes.",
    )  # fmt: skip
    UNSUPPORTED_MEDIA_TYPE = (
        "unsupported_media_type", 415, "invalid_request", False,
        "This is no audio that is read here. Send a WAV, FLAC, MP3, Ogg-Opus or Ogg-Vorbis file as the body.",
    )  # fmt: skip
    UNREADABLE_AUDIO = (
        "unreadable_audio", 422, "invalid_request", False,
        "The file is damaged, or its header does not match what follows. Export it anew, as WAV or FLAC.",
    )  # fmt: skip
    AUDIO_TOO_LONG = (
        "audio_too_long", 422, "invalid_request", False,
        "The audio is longer than this server takes. Send a shorter part; `details.max_duration_s` says how long.",
    )  # fmt: skip
    CONDITIONING_UNSUPPORTED = (
        "conditioning_unsupported", 422, "invalid_request", False,
        "This model can not take a melody or a continuation. Leave it out, or choose a model that can.",
    )  # fmt: skip
    STORAGE_UNAVAILABLE = (
        "storage_unavailable", 503, "unavailable", True,
        "The store of finished audio does not answer. Nothing is lost: send the request again in a moment.",
    )  # fmt: skip
    # Streams.
    GENERATION_CANCELLED = (
        "generation_cancelled", 409, "conflict", False,
        "This generation was cancelled, so its audio does not go on. Make a new one.",
    )  # fmt: skip
    GENERATION_EXPIRED = (
        "generation_expired", 503, "overloaded", True,
        "This generation waited in the queue for as long as it may. Its quota was given back: make it again later.",
    )  # fmt: skip
    # Generations.
    GENERATION_NOT_FOUND = (
        "generation_not_found", 404, "not_found", False,
        "This account has no generation of that id. Check the id; it is in the answer to POST /api/v1/generate.",
    )  # fmt: skip
    GENERATION_ENDED = (
        "generation_ended", 409, "conflict", False,
        "This generation has ended, so there is nothing to cancel. GET it to see its result.",
    )  # fmt: skip
    STORE_UNAVAILABLE = (
        "store_unavailable", 503, "unavailable", True,
        "The database does not answer for now. Send the request again in a moment, with the same Idempotency-Key.",
    )  # fmt: skip
