"""Whether a request was made on this very machine, by a person: what development trusts without a credential."""

from __future__ import annotations

from ipaddress import ip_address

from starlette.requests import HTTPConnection

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


def is_local(connection: HTTPConnection) -> bool:
    """True for a client on the loopback interface that no proxy stands for, asking by a name that is this machine's.

    The name matters because a web page can let its own name resolve to 127.0.0.1 (DNS rebinding): the browser then
    takes this server for the page's own site, but still says in Host which name it asked for.
    """
    client = connection.client
    if client is None or not _is_loopback(client.host):
        return False
    if any(header in connection.headers for header in _FORWARDED):
        return False
    return _names_this_machine(connection.headers.get("host", ""))


def _names_this_machine(host: str) -> bool:
    name = _without_port(host).rstrip(".").lower()
    # No public site can have a name without a dot; containers and hosts files have.
    return bool(name) and (not {".", ":"} & set(name) or name.endswith(".localhost") or _is_loopback(name))


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_loopback(address: str) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return parsed.is_loopback or (mapped is not None and mapped.is_loopback)
