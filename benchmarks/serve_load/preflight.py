"""Looks before the first request is sent: is somebody there, are the keys good, can what is planned be asked for?"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any

from api.cli_output import CliError, ExitCode, usage_error
from benchmarks.api.client import ConnectionLostError
from benchmarks.serve_load.calls import Keys
from benchmarks.serve_load.plan import Schedule, Workload
from benchmarks.serve_load.server import Server
from benchmarks.serve_load.wire import Body

NO_KEY = "no key"


async def known_keys(url: str, given: Sequence[tuple[str, str]]) -> Keys:
    """Credentials by tier, each of them tried.

    Args:
        given: pairs of a tier and an API key. Empty: the server is expected to know this machine, as one in
            development on loopback does.

    Raises:
        CliError: nobody answers, it is not this API, a key is not known, or is of another tier.
    """
    server = _server(url)
    try:
        found: dict[str, list[str | None]] = {}
        tried: list[tuple[str, str | None]] = [*given] or [("", None)]
        for tier, key in tried:
            found.setdefault(await _tier(server, url, tier, key), []).append(key)
        return found
    finally:
        server.close()


async def _tier(server: Server, url: str, tier: str, key: str | None) -> str:
    """Of a key's account."""
    answer = await _get(server, url, "/api/v1/user/profile", key)
    if answer.status in {401, 403}:
        if key is None:
            raise usage_error(f"{url} does not know this machine (it is not in development): give --api-key TIER=KEY")
        raise usage_error(f"the key for tier {tier!r} is not good at {url}: {_reason(answer)}")
    actual = str(_json(answer, url)["tier"])
    if tier and actual != tier:
        raise usage_error(f"the key given for tier {tier!r} is of an account in tier {actual!r}: --api-key {actual}=…")
    return actual


async def default_model(url: str) -> str:
    """The model of requests that name none.

    Raises:
        CliError: nobody answers, or it is not this API.
    """
    server = _server(url)
    try:
        listed = _json(await _get(server, url, "/api/v1/models"), url)["data"]
    finally:
        server.close()
    return next(str(each["id"]) for each in listed if each["default"])


async def check(url: str, keys: Keys, workload: Workload, schedule: Schedule) -> list[str]:
    """Refuse what the server would refuse every time.

    Returns:
        Warnings: what will be refused some of the time, because of the accounts' own limits.

    Raises:
        CliError: what can not be, and what can.
    """
    server = _server(url)
    try:
        if missing := sorted(set(workload.tiers) - set(keys)):
            has = ", ".join(sorted(keys))
            raise usage_error(f"no key for tier {missing[0]!r} (there are keys for {has}): give --api-key TIER=KEY")
        models = {each["id"]: each for each in _json(await _get(server, url, "/api/v1/models"), url)["data"]}
        tiers = {each["name"]: each for each in _json(await _get(server, url, "/api/v1/tiers"), url)["data"]}
    finally:
        server.close()
    for name in workload.models:
        if name not in models:
            raise usage_error(f"{url} has no model {name!r}: it serves {', '.join(models)}")
        _check_model(models[name], workload)
    return [text for tier in workload.tiers for text in _limits(tiers[tier], keys, schedule)]


def _check_model(model: Mapping[str, Any], workload: Workload) -> None:
    if not model["health"]["ready"]:
        raise CliError(f"model {model['id']!r} is not ready: {model['health']['reason']}", "model_unavailable")
    longest = {each["name"]: float(each["max_duration"]) for each in model["tiers"]}
    for tier in workload.tiers:
        limit, most = min(longest[tier], float(model["max_duration"])), max(workload.lengths_s)
        if most > limit:
            raise usage_error(f"tier {tier!r} may ask model {model['id']!r} for {limit:g} s at most, not {most:g} s")


def _limits(tier: Mapping[str, Any], keys: Keys, schedule: Schedule) -> list[str]:
    """What the accounts' limits will refuse of this schedule at least."""
    accounts = len(keys[tier["name"]])
    mine = [each for each in schedule.requests if each.tier == tier["name"]]
    hours = math.ceil(schedule.duration_s / 3600)
    found = []
    per_hour = tier["generations_per_hour"]
    if per_hour is not None and len(mine) > per_hour * accounts * hours:
        found.append(
            f"tier {tier['name']!r} may make {per_hour} generations an hour, and {accounts} account(s) are sent "
            f"{len(mine)}: the rest will be refused as rate_limited, which no service level counts"
        )
    rate = 60 * len(mine) / schedule.duration_s
    if rate > tier["requests_per_minute"] * accounts:
        found.append(
            f"tier {tier['name']!r} may send {tier['requests_per_minute']} requests a minute, and {accounts} "
            f"account(s) are to send {rate:.0f}: give more keys"
        )
    return found


def _server(url: str) -> Server:
    try:
        return Server(url)
    except ValueError as error:
        raise usage_error(f"--url: {error}") from None


async def _get(server: Server, url: str, path: str, key: str | None = None) -> Body:
    try:
        async with asyncio.timeout(30):
            return await server.call(server.request("GET", path, key))
    except (ConnectionLostError, OSError) as error:
        reason = str(error) or type(error).__name__
        raise CliError(
            f"cannot reach {url} ({reason}): is tutti serve running there? --start starts one", "unreachable",
            ExitCode.USAGE,
        ) from error  # fmt: skip


def _json(answer: Body, url: str) -> Any:
    try:
        if answer.status == 200:
            return answer.json()
    except ValueError:
        pass
    raise CliError(f"{url} does not answer as this API does (status {answer.status})", "bad_answer", ExitCode.USAGE)


def _reason(answer: Body) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status}"
