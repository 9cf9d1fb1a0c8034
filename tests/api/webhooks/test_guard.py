"""Names and the addresses behind them."""

from __future__ import annotations

import asyncio
import socket

import pytest

from api.webhooks.guard import MAX_ADDRESSES, Guard, ResolutionError, SystemResolver
from api.webhooks.targets import Rules, UrlRefusedError
from tests.api.webhooks.conftest import HOST, Names

PUBLIC = "93.184.215.14"
URL = f"https://{HOST}/x"


async def failing(_host: str, _port: int) -> list[str]:
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


async def hanging(_host: str, _port: int) -> list[str]:
    await asyncio.Event().wait()
    return []


async def addresses(guard: Guard, url: str = URL) -> list[str]:
    return [str(address) for address in await guard.addresses(guard.read(url))]


async def test_a_name_is_looked_up_once_and_all_its_public_addresses_are_given_in_order() -> None:
    names = Names({HOST: ["2606:4700::1", PUBLIC, "::ffff:1.1.1.1"]})
    assert await addresses(Guard(Rules(), names)) == ["2606:4700::1", PUBLIC, "1.1.1.1"]
    assert names.asked == [HOST]


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"], ["10.0.0.1"], ["169.254.169.254"], ["168.63.129.16"], ["0.0.0.0"], ["::1"], ["fe80::1%2"],
        ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"], ["2002:7f00:1::"], ["fd00:ec2::254"],
        [PUBLIC, "127.0.0.1"], ["10.0.0.1", PUBLIC], [PUBLIC, "1.1.1.1", "8.8.8.8", "9.9.9.9", "::1"],
    ],
)  # fmt: skip
async def test_one_address_that_is_not_public_refuses_the_name_and_is_not_told(answers: list[str]) -> None:
    guard = Guard(Rules(), Names({HOST: answers}))
    with pytest.raises(UrlRefusedError, match="public addresses only") as refused:
        await addresses(guard)
    assert not any(address in str(refused.value) for address in answers)


async def test_every_answer_is_checked_but_not_every_one_is_tried() -> None:
    many = [f"1.1.1.{i}" for i in range(1, 10)]
    assert await addresses(Guard(Rules(), Names({HOST: many}))) == many[:MAX_ADDRESSES]


async def test_an_address_in_the_url_is_not_looked_up() -> None:
    names = Names({})
    assert await addresses(Guard(Rules(), names), "https://1.1.1.1/") == ["1.1.1.1"]
    assert names.asked == []


async def test_a_name_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UrlRefusedError, match="leads to no address"):
        await addresses(Guard(Rules(), Names({})))
    with pytest.raises(UrlRefusedError, match="leads to no address"):
        await addresses(Guard(Rules(), Names({HOST: [[]]})))


async def test_a_name_server_that_does_not_answer_refuses_nothing_at_registration() -> None:
    with pytest.raises(ResolutionError):
        await addresses(Guard(Rules(), failing))
    assert await Guard(Rules(), failing).check(URL, 1.0) == URL
    assert await Guard(Rules(), hanging).check(URL, 0.01) == URL


async def test_registration_refuses_what_deliveries_would_refuse() -> None:
    guard = Guard(Rules(), Names({HOST: ["127.0.0.1"], "good.example": [PUBLIC]}))
    with pytest.raises(UrlRefusedError):
        await guard.check(URL, 1.0)
    with pytest.raises(UrlRefusedError):
        await guard.check("https://127.1/", 1.0)
    assert await guard.check("HTTPS://Good.example:443", 1.0) == "https://good.example/"


async def test_the_private_setting_lets_a_name_lead_to_loopback() -> None:
    guard = Guard(Rules(allow_private=True), Names({HOST: ["127.0.0.1"], "meta.example": ["169.254.169.254"]}))
    assert await addresses(guard) == ["127.0.0.1"]
    with pytest.raises(UrlRefusedError):
        await addresses(guard, "https://meta.example/")


async def test_the_systems_resolver_knows_this_machine() -> None:
    resolver = SystemResolver(absolute=False)
    assert set(await resolver("localhost", 80)) <= {"127.0.0.1", "::1"}
    resolver.close()


async def test_whole_names_are_not_looked_for_among_this_machines_own() -> None:
    """ "hooks" could be hooks.svc.cluster.local; "hooks." is nothing but itself."""
    resolver = SystemResolver(absolute=True)
    with pytest.raises(socket.gaierror):
        await resolver(socket.gethostname().partition(".")[0], 80)
    resolver.close()


async def test_without_a_resolver_the_systems_is_asked() -> None:
    guard = Guard(Rules(allow_private=True))
    assert set(await addresses(guard, "https://localhost/")) <= {"127.0.0.1", "::1"}
    guard.close()
