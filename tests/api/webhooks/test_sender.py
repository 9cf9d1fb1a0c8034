"""One attempt against real servers that behave well, badly, or not at all."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from api.webhooks.guard import Guard
from api.webhooks.sender import Sender
from api.webhooks.targets import Rules
from tests.api.webhooks.certificates import Authority
from tests.api.webhooks.conftest import HOST, ManualClock, Names
from tests.api.webhooks.receiver import Receiver, answer, receiving
from tests.api.webhooks.sending import BODY, post, sender


# ------------------------------------------------------------------------------------------- what is sent
async def test_what_arrives(receiver: Receiver) -> None:
    receiver.default = answer(200, b"thank you")
    outcome = await post(receiver.url("/a/b?c=d&e=%20"))
    assert (outcome.status, outcome.error, outcome.excerpt) == (200, None, "thank you")
    assert outcome.delivered
    (request,) = receiver.requests
    assert (request.method, request.path, request.body) == ("POST", "/a/b?c=d&e=%20", BODY)
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == "evt_1"
    assert request.headers["user-agent"].startswith("Tutti-Webhooks/")
    assert request.headers["accept-encoding"] == "identity"
    assert "cookie" not in request.headers


async def test_a_proxy_in_the_environment_is_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await post(receiver.url())).delivered


async def test_the_checked_address_is_connected_to_with_the_hosts_name_in_tls_and_host(authority: Authority) -> None:
    """No resolver of the system knows this name: what arrives was sent to the address that was checked."""
    names = Names({HOST: ["127.0.0.1"]})
    async with receiving(authority.server(HOST)) as receiver:
        outcome = await post(receiver.url(host=HOST), sender(names=names, tls=authority.client()))
    assert outcome.delivered
    (request,) = receiver.requests
    assert request.sni == HOST
    assert request.headers["host"] == f"{HOST}:{receiver.port}"
    assert names.asked == [HOST]


async def test_a_certificate_of_another_name_is_refused(authority: Authority) -> None:
    async with receiving(authority.server("other.example.com")) as receiver:
        outcome = await post(receiver.url(host=HOST), sender(tls=authority.client()))
        assert receiver.requests == []
    assert outcome.status is None
    assert outcome.error is not None
    assert "certificate" in outcome.error


async def test_a_certificate_of_an_unknown_authority_is_refused(authority: Authority) -> None:
    async with receiving(authority.server(HOST)) as receiver:
        outcome = await post(receiver.url(host=HOST), sender())
        assert receiver.requests == []
    assert outcome.error is not None
    assert "certificate" in outcome.error


async def test_two_names_at_one_address_have_a_connection_each(authority: Authority) -> None:
    names = Names({HOST: ["127.0.0.1"], "other.example.com": ["127.0.0.1"]})
    sending = sender(names=names, tls=authority.client())
    async with receiving(authority.server(HOST)) as receiver:
        assert (await post(receiver.url(host=HOST), sending)).delivered
        assert not (await post(receiver.url(host="other.example.com"), sending)).delivered
        assert len(receiver.requests) == 1


async def test_the_next_address_is_tried_when_nothing_listens_at_the_first(receiver: Receiver) -> None:
    names = Names({HOST: ["127.0.0.2", "127.0.0.3", "127.0.0.1"]})
    assert (await post(receiver.url(host=HOST), sender(names=names))).delivered
    assert len(receiver.requests) == 1


# ------------------------------------------------------------------------------------- what is not sent
@pytest.mark.parametrize("rules", [Rules(), Rules(allow_http=True)])
async def test_nothing_is_sent_to_loopback_unless_a_setting_says_so(receiver: Receiver, rules: Rules) -> None:
    outcome = await post(receiver.url(), sender(rules))
    assert outcome.error is not None
    assert outcome.error.startswith("not sent: ")
    assert receiver.requests == []


async def test_a_name_that_changes_its_answer_is_checked_at_each_attempt(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: public when it is registered, loopback when it is used."""
    monkeypatch.setattr("api.webhooks.targets._PORTS", {"http": (receiver.port,), "https": (443,)})
    rules = Rules(allow_http=True)
    guard = Guard(rules, Names({HOST: [["93.184.215.14"], ["127.0.0.1"]]}))
    url = await guard.check(receiver.url(host=HOST), 1.0)
    outcome = await Sender(guard, ManualClock(), 5.0).post(url, {}, BODY)
    assert outcome.error is not None
    assert "public addresses only" in outcome.error
    assert receiver.requests == []


async def test_the_name_is_asked_for_once_so_no_second_answer_can_differ(receiver: Receiver) -> None:
    names = Names({HOST: [["127.0.0.1"], ["169.254.169.254"]]})
    assert (await post(receiver.url(host=HOST), sender(names=names))).delivered
    assert names.asked == [HOST]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(receiver: Receiver, status: int) -> None:
    async with receiving() as inside:
        receiver.default = answer(status, location=inside.url("/secret"))
        outcome = await post(receiver.url())
        assert inside.requests == []
    assert (outcome.status, outcome.delivered) == (status, False)
    assert "not followed" in (outcome.error or "")


async def test_a_name_that_can_not_be_looked_up_now() -> None:
    async def temporary(_host: str, _port: int) -> Sequence[str]:
        import socket

        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure")

    outcome = await post(f"https://{HOST}/", sender(names=temporary))
    assert outcome.error == "not sent: the host name could not be looked up at this moment"
