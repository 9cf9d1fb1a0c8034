"""The URLs webhooks may be sent to, read once and strictly.

Different parsers read odd URLs differently, and that is how checks are slipped past. Here one expression says what a
URL may look like; whatever else somebody could mean by it is refused, and what is sent is put together from the parts
that were checked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

from api.webhooks.addresses import Address, allowed, parse

MAX_URL_CHARACTERS: Final = 2000  # with the event's id it must fit into one entry of a PostgreSQL index
_MAX_HOST_CHARACTERS: Final = 253
_PORTS: Final = {"https": (443, 8443), "http": (80, 8080)}
_URL: Final = re.compile(
    r"(?P<scheme>[a-z]+)://"
    r"(?P<host>\[[^\[\]/?#@]*\]|[^\[\]/?#@:]*)"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)?"
    r"(?:\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]-]|%[0-9A-Fa-f]{2})*)?)"
)
_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
# What browsers and C libraries take for an IPv4 address: a last label that is a number, in whatever notation.
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


class UrlRefusedError(ValueError):
    """Webhooks are not sent to this URL; the message says why and what to give instead."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings open beyond public https addresses.

    Attributes:
        allow_http: unencrypted http too.
        allow_private: loopback and private networks too, on any port.
    """

    allow_http: bool = False
    allow_private: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A URL in parts.

    Attributes:
        host: lower case, ASCII; of an IPv6 literal without its brackets.
        literal: the host as an address, None if it is a name.
        path: with the query; starts with a slash.
    """

    scheme: str
    host: str
    port: int
    path: str
    literal: Address | None

    @property
    def authority(self) -> str:
        """The Host header: without the port if that is the scheme's own."""
        host = f"[{self.host}]" if isinstance(self.literal, IPv6Address) else self.host
        return host if self.port == _PORTS[self.scheme][0] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The same address is always the same text."""
        return f"{self.scheme}://{self.authority}{self.path}"

    def at(self, address: Address) -> str:
        """The URL with this address in place of the host, which no resolver will be asked for."""
        host = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def parse_target(url: str, rules: Rules) -> Target:
    """Read a URL.

    Raises:
        UrlRefusedError: it is no plain public address; names are not resolved here.
    """
    if len(url) > MAX_URL_CHARACTERS:
        raise UrlRefusedError(f"must have at most {MAX_URL_CHARACTERS} characters")
    if not url.isascii():
        raise UrlRefusedError("must be ASCII: write an international name as xn--… and the path percent-encoded")
    if "@" in url.split("://", 1)[-1].split("/", 1)[0]:
        raise UrlRefusedError("must not hold a user name or password: remove what stands before the @")
    scheme, separator, rest = url.partition("://")
    match = _URL.fullmatch(f"{scheme.lower()}{separator}{rest}")
    if match is None:
        raise UrlRefusedError(
            "must look like https://hooks.example.com/path, without a fragment, spaces or backslashes"
        )
    _check_scheme(match["scheme"], rules)
    host = match["host"].lower()
    literal = _literal(host, rules)
    port = int(match["port"] or _PORTS[match["scheme"]][0])
    _check_port(match["scheme"], port, rules)
    path = match["target"] if match["target"].startswith("/") else f"/{match['target']}"
    return Target(match["scheme"], host.strip("[]"), port, path, literal)


def _check_scheme(scheme: str, rules: Rules) -> None:
    if scheme not in _PORTS:
        raise UrlRefusedError("must start with https://")
    if scheme == "http" and not rules.allow_http:
        raise UrlRefusedError("must start with https://: over http anybody on the way could read and change it")


def _check_port(scheme: str, port: int, rules: Rules) -> None:
    if rules.allow_private and 1 <= port <= 65_535:
        return
    if port not in _PORTS[scheme]:
        ports = " or ".join(str(port) for port in _PORTS[scheme])
        raise UrlRefusedError(f"must use port {ports}")


def _literal(host: str, rules: Rules) -> Address | None:
    """The host's address if it is written as one."""
    if host.startswith("["):
        return _permitted(host.strip("[]"), rules)
    if host.endswith("."):
        raise UrlRefusedError("must not end its host with a dot: remove it")
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _permitted(host, rules)
    if len(host) > _MAX_HOST_CHARACTERS or not all(_LABEL.fullmatch(label) for label in labels):
        raise UrlRefusedError("must have a host name of letters, digits and hyphens, such as hooks.example.com")
    if len(labels) == 1 and not rules.allow_private:
        raise UrlRefusedError("must have a full host name, such as hooks.example.com")
    return None


def _permitted(text: str, rules: Rules) -> Address:
    try:
        address = parse(text)
    except ValueError:
        raise UrlRefusedError("must write an IP address plainly, such as 198.41.0.4, or better name the host") from None
    if str(address) != text:
        # 0:0:0:0:0:0:0:1, [::ffff:127.0.0.1]: the address is known, but why would somebody write it so?
        raise UrlRefusedError("must write an IP address in its shortest plain form, or better name the host")
    if not allowed(address, allow_private=rules.allow_private):
        raise UrlRefusedError("must be a public address: this one is private, local or reserved")
    return address
