"""Redaction: prompts, credentials and addresses of people, in whatever value they stand."""

from __future__ import annotations

import io

import pytest

from api.logs import make_logger, request_scope
from api.redaction import HIDDEN, MAX_TEXT, hide
from tests.api.conventions.corpus import PROMPT, SECRETS, TELLTALES, lines


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())
def test_secrets_are_cut_out_of_any_value(stream: io.StringIO, secret: str) -> None:
    log = make_logger("debug", stream)
    log.info(
        "said", note=secret, inside=f"before {secret} after", nested={"deep": [secret, (secret,)]}, other=_Shown(secret)
    )
    log.info("in the event: " + secret)  # noqa: G003  # what nobody should write is hidden too
    log.info("by position", reason=ValueError(secret))
    try:
        raise ValueError(secret)
    except ValueError:
        log.exception("in a traceback")
    written = stream.getvalue()
    assert not [telltale for telltale in TELLTALES if telltale in written]
    assert len(lines(stream)) == 4


class _Shown:
    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return f"_Shown({self._text})"


@pytest.mark.parametrize(
    "name",
    [
        "prompt", "prompts", "lyrics", "negative_prompt", "password", "new_password", "Authorization", "set-cookie",
        "access_token", "refresh_token", "ticket", "api_key", "X-API-Key", "client_secret", "master_keys", "email",
        "user_email", "body", "headers", "signature",
    ],
)  # fmt: skip
def test_fields_with_telling_names_are_hidden_whatever_they_hold(stream: io.StringIO, name: str) -> None:
    make_logger("info", stream).info("said", **{name: "xyz"}, nested={name: ["xyz"]})
    [line] = lines(stream)
    assert (line[name], line["nested"][name]) == (HIDDEN, HIDDEN)


def test_what_is_useful_stays(stream: io.StringIO) -> None:
    kept = {
        "request_id": "req_0123456789abcdef01234567",
        "generation_id": "gen_0123456789abcdef01234567",
        "api_key_id": "key_0123456789abcdef01234567",
        "route": "/api/v1/generate/{generation_id}",
        "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "prompt_characters": 41,
        "url": "https://hooks.example.com/in",
        "object_key": "tracks/trk_1/1.f32",
        "complete": True,
        "reason": None,
    }
    make_logger("info", stream).info("said", **kept)
    [line] = lines(stream)
    assert {name: line[name] for name in kept} == kept


def test_prompts_only_by_setting(stream: io.StringIO) -> None:
    make_logger("info", stream, log_prompts=True).info("said", prompt=PROMPT, password="xyz")
    [line] = lines(stream)
    assert (line["prompt"], line["password"]) == (PROMPT, HIDDEN)


def test_hidden_texts_are_cut_out_of_tracebacks(stream: io.StringIO) -> None:
    log = make_logger("info", stream)
    with request_scope("req_1"):
        hide(PROMPT)
        try:
            raise KeyError(PROMPT)
        except KeyError:
            log.exception("failed", near=repr(PROMPT), said=f"«{PROMPT}»")
    assert "Mathilda" not in stream.getvalue()
    log.info("after", note=PROMPT)
    assert "Mathilda" in stream.getvalue(), "the next request hides nothing of this one"


def test_long_values_are_cut_and_no_secret_with_them(stream: io.StringIO) -> None:
    log = make_logger("info", stream)
    for text in ("x" * 100_000, "a.b." * 25_000, "://" * 30_000, "x" * (MAX_TEXT - 10) + SECRETS["live key"]):
        log.info("said", note=text)
    assert len(stream.getvalue()) < 4 * (MAX_TEXT + 500)
    assert "sk_live" not in stream.getvalue()
