"""What never reaches a log: prompts, credentials, addresses of people. Applied to every entry, last of all.

Two nets: names (a field called ``password`` is hidden whatever it holds) and shapes (a key, a token or an email inside
any text is cut out, tracebacks included). ``hide`` adds the texts of one request, such as its prompt, which have no
shape of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from structlog.typing import EventDict, WrappedLogger

HIDDEN = "[redacted]"
MAX_TEXT = 8_192  # characters of one value; a traceback fits, an upload does not
_LONGEST_SECRET = 1_024  # characters; one that was cut in two is not recognised, so this much beside a cut goes as well
_MAX_DEPTH = 6
_MIN_HIDDEN_TEXT = 4  # characters: shorter ones would also be cut out of words that have nothing to do with them

_SECRET_PARTS = ("password", "secret", "authorization", "cookie", "credential", "signature", "email")
_SECRET_ENDS = ("token", "tokens", "ticket", "api_key", "apikey", "api-key", "private_key", "master_key", "master_keys")
_SECRET_NAMES = frozenset({"key", "body", "headers", "payload", "query_string"})
_PROMPT_PARTS = ("prompt", "lyrics")

_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    # Values that libraries put into their messages: pydantic's input, SQLAlchemy's parameters, PostgreSQL's keys.
    (re.compile(r"input_value=.*?(?=, input_type=|$)", re.MULTILINE | re.DOTALL), f"input_value={HIDDEN}"),
    (re.compile(r"\[parameters: .*?\](?=$|\n|\\n|['\"])", re.DOTALL), f"[parameters: {HIDDEN}]"),
    (re.compile(r"(Key \([^)]*\)=)\([^)]*\)"), rf"\1({HIDDEN})"),
    (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]+", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"\bsk_[A-Za-z0-9_]{8,}"), HIDDEN),
    (re.compile(r"\bwhsec_[A-Za-z0-9+/=_-]+"), HIDDEN),
    (re.compile(r"\b(?:rt|cs)_tt_[A-Za-z0-9_-]{8,}"), HIDDEN),  # refresh tokens and browsers' sessions
    (re.compile(r"\beyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), HIDDEN),  # JSON Web Tokens
    (re.compile(r"\$argon2\w*\$\S+"), HIDDEN),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL), HIDDEN),
    (re.compile(r"(?<=://)[^/\s@\"']+@"), f"{HIDDEN}@"),  # user and password of a URL
    (re.compile(r"(\b[a-z][a-z0-9+.-]{0,20}://[^\s?#\"'<>]*)[?#][^\s\"'<>]*"), rf"\1?{HIDDEN}"),  # a URL's query
    (re.compile(r"(?<![A-Za-z0-9._%+'-])[A-Za-z0-9._%+'-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"), HIDDEN),  # email
)

_texts: ContextVar[tuple[str, ...]] = ContextVar("hidden_texts", default=())


def hide(*texts: str) -> None:
    """Cut these texts out of everything this request logs from here on."""
    _texts.set((*_texts.get(), *texts))


@contextmanager
def hiding(*texts: str) -> Iterator[None]:
    """``hide`` for the length of a block, and forget what was hidden inside it."""
    before = _texts.set(_texts.get())
    hide(*texts)
    try:
        yield
    finally:
        _texts.reset(before)


class Redactor:
    """A structlog processor.

    Args:
        log_prompts: leave prompts in; everything else stays hidden.
        texts: the texts to hide now; left out: those that ``hide`` was given.
    """

    def __init__(self, *, log_prompts: bool = False, texts: Callable[[], Iterable[str]] = _texts.get) -> None:
        self._hides_prompts = not log_prompts
        self._texts = texts

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        return {name: self._field(name, value, 0) for name, value in event.items()}

    def _field(self, name: str, value: Any, depth: int) -> Any:
        if isinstance(value, bool | int | float) or value is None:
            return value
        return HIDDEN if self._is_secret(name.lower()) else self._value(value, depth)

    def _is_secret(self, name: str) -> bool:
        if self._hides_prompts and any(part in name for part in _PROMPT_PARTS):
            return True
        secret = name in _SECRET_NAMES or name.endswith(_SECRET_ENDS)
        return secret or any(part in name for part in _SECRET_PARTS)

    def _value(self, value: Any, depth: int) -> Any:
        if isinstance(value, bool | int | float) or value is None:
            return value
        if depth > _MAX_DEPTH:
            return HIDDEN
        if isinstance(value, Mapping):
            return {str(name): self._field(str(name), inner, depth + 1) for name, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._value(inner, depth + 1) for inner in value]
        return self._text(value if isinstance(value, str) else repr(value))

    def _text(self, text: str) -> str:
        if len(text) > MAX_TEXT:
            kept = self._without_secrets(text[:MAX_TEXT])
            return f"{kept[: -min(_LONGEST_SECRET, len(kept))]}… ({len(text)} characters)"
        return self._without_secrets(text)

    def _without_secrets(self, text: str) -> str:
        if self._hides_prompts:
            for hidden in self._texts():
                if len(hidden) >= _MIN_HIDDEN_TEXT:
                    text = text.replace(hidden, HIDDEN).replace(repr(hidden)[1:-1], HIDDEN)
        for shape, replacement in _SHAPES:
            text = shape.sub(replacement, text)
        return text
