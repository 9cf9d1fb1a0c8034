"""What a webhook's URL may look like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.webhooks.addresses import parse
from api.webhooks.targets import MAX_URL_CHARACTERS, Rules, Target, UrlRefusedError, parse_target

STRICT = Rules()
OPEN = Rules(allow_http=True, allow_private=True)

ACCEPTED = {
    "https://hooks.example.com": "https://hooks.example.com/",
    "https://hooks.example.com/": "https://hooks.example.com/",
    "HTTPS://Hooks.Example.COM/Path": "https://hooks.example.com/Path",
    "https://hooks.example.com:443/x": "https://hooks.example.com/x",
    "https://hooks.example.com:8443/x?a=b&c=%20d": "https://hooks.example.com:8443/x?a=b&c=%20d",
    "https://hooks.example.com?a=1": "https://hooks.example.com/?a=1",
    "https://xn--bcher-kva.example/": "https://xn--bcher-kva.example/",
    "https://a-b.c1.example/~u/@me;v=1": "https://a-b.c1.example/~u/@me;v=1",
    "https://1.1.1.1/": "https://1.1.1.1/",
    "https://[2606:4700:4700::1111]:8443/": "https://[2606:4700:4700::1111]:8443/",
    "https://127.0.0.1.nip.example/": "https://127.0.0.1.nip.example/",  # a name: what it leads to is checked later
}
REFUSED = [
    # Other schemes, other shapes.
    "", "hooks.example.com", "//hooks.example.com", "https:hooks.example.com", "https:///x", "https://", "https:// /",
    "http://hooks.example.com/", "ftp://hooks.example.com/", "file:///etc/passwd", "gopher://hooks.example.com/",
    "javascript://hooks.example.com/", "data://x.example/", "unix://x.example/", "h2c://x.example/", "ws://x.example/",
    # User names, fragments, separators that parsers disagree about.
    "https://user@hooks.example.com/", "https://user:pass@hooks.example.com/", "https://hooks.example.com@127.0.0.1/",
    "https://127.0.0.1#@hooks.example.com/", "https://hooks.example.com/#x", "https://hooks.example.com\\@127.0.0.1/",
    "https:\\\\hooks.example.com/", "https://hooks.example.com\\x/", "https:/\\hooks.example.com/", "https://@/",
    "https://hooks.example.com /", " https://hooks.example.com/", "https://hooks.example.com/ x", "https://a.example/\n",
    "https://hooks.example.com/\r\nHost: x", "https://hooks.example.com/\tx", "https://hooks\t.example.com/",
    "https://hooks.example.com/\0", "https://hooks.example.com/%zz", "https://hooks.example.com/%", "https://a.example/<x>",
    "https://hooks.example.com/{x}", "https://hooks.example.com/\"", "https://hooks.example.com/`", "https://a.example/a|b",
    # Ports.
    "https://hooks.example.com:80/", "https://hooks.example.com:22/", "https://hooks.example.com:6379/",
    "https://hooks.example.com:0/", "https://hooks.example.com:65536/", "https://hooks.example.com:/", "https://a.example:-1/",
    "https://hooks.example.com:443:443/", "https://hooks.example.com:x/",
    # Loopback in every notation.
    "https://127.0.0.1/", "https://127.1/", "https://127.0.1/", "https://0x7f.1/", "https://0x7f000001/",
    "https://0x7F.0.0.1/", "https://2130706433/", "https://017700000001/", "https://0177.0.0.1/", "https://127.0.0.01/",
    "https://127.000.000.001/", "https://0/", "https://0.0.0.0/", "https://127.0.0.0x1/", "https://0x/", "https://1.2.3.0x/",
    "https://[::1]/", "https://[0:0:0:0:0:0:0:1]/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/",
    "https://[::ffff:8.8.8.8]/", "https://[::127.0.0.1]/", "https://[::]/", "https://[fe80::1%25eth0]/", "https://[fe80::1%eth0]/",
    "https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/", "https://[2606:4700:4700:0:0:0:0:1111]/", "https://[]/",
    "https://[v1.x]/", "https://[::1/", "https://::1/", "https://[2606:4700::1111]x/", "https://1.1.1.1.1/", "https://1.1.1/",
    "https://256.1.1.1/", "https://1.1.1.1./", "https://%31%32%37.0.0.1/", "https://localhost%2f/", "https://008.8.8.8/",
    # Private, reserved, metadata.
    "https://10.0.0.1/", "https://169.254.169.254/latest/meta-data/", "https://192.168.0.1/", "https://100.100.100.200/",
    "https://168.63.129.16/", "https://[fd00:ec2::254]/", "https://255.255.255.255/", "https://224.0.0.1/",
    # Names.
    "https://localhost/", "https://intranet/", "https://hooks.example.com./", "https://.example.com/", "https://a..example/",
    "https://-a.example/", "https://a-.example/", "https://a_b.example/", "https://./", "https://../", "https://*.example/",
    f"https://{'a' * 64}.example/", f"https://{'a.' * 127}example/",
    # Letters that look like others, digits and dots that become others.
    "https://ⓔxample.com/", "https://еxample.com/", "https://bücher.example/", "https://１２７.０.０.１/", "https://127。0。0。1/",
    "https://exampl\u200be.com/", "https://example.com／x", "https://ﬀ.example/", "https://hooks.example.com/ü",
    f"https://hooks.example.com/{'a' * MAX_URL_CHARACTERS}",
]  # fmt: skip


@pytest.mark.parametrize(("url", "normal"), ACCEPTED.items())
def test_accepted_in_one_normal_form(url: str, normal: str) -> None:
    target = parse_target(url, STRICT)
    assert target.url == normal
    assert parse_target(normal, STRICT) == target


@pytest.mark.parametrize("url", REFUSED)
def test_refused(url: str) -> None:
    with pytest.raises(UrlRefusedError, match=r"^must "):
        parse_target(url, STRICT)


def test_the_development_settings_open_http_loopback_and_any_port() -> None:
    assert parse_target("http://127.0.0.1:8000/x", OPEN).url == "http://127.0.0.1:8000/x"
    assert parse_target("http://localhost:8000/x", OPEN).host == "localhost"
    assert parse_target("https://[::1]:9/x", OPEN).at(parse("::1")) == "https://[::1]:9/x"


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/", "http://168.63.129.16/", "http://0.0.0.0/", "http://0x7f.1/", "http://2130706433/",
        "http://[::ffff:127.0.0.1]/", "http://127.0.0.1:0/", "http://127.0.0.1:65536/", "http://u@127.0.0.1/",
    ],
)  # fmt: skip
def test_what_no_setting_opens(url: str) -> None:
    with pytest.raises(UrlRefusedError):
        parse_target(url, OPEN)


def test_http_alone_opens_neither_private_addresses_nor_ports() -> None:
    rules = Rules(allow_http=True)
    assert parse_target("http://hooks.example.com/", rules).port == 80
    for url in ("http://127.0.0.1/", "http://hooks.example.com:8000/"):
        with pytest.raises(UrlRefusedError):
            parse_target(url, rules)


def test_what_is_connected_to_and_what_is_said_there() -> None:
    target = parse_target("https://Hooks.example.com:8443/a?b", STRICT)
    assert (target.host, target.authority) == ("hooks.example.com", "hooks.example.com:8443")
    assert target.at(parse("2606:4700::1")) == "https://[2606:4700::1]:8443/a?b"
    assert target.at(parse("1.2.3.4")) == "https://1.2.3.4:8443/a?b"


@given(st.text())
def test_anything_at_all_is_either_refused_or_a_public_https_target(text: str) -> None:
    try:
        target = parse_target(f"https://{text}", STRICT)
    except UrlRefusedError:
        return
    assert target.scheme == "https"
    assert target.port in (443, 8443)
    assert isinstance(target, Target)
    assert parse_target(target.url, STRICT) == target
