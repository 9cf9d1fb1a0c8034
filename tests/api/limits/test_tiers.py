"""The tiers file: what it says, and every way in which it can be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from api.limits.tiers import TIERS_FILE, Tiers, TiersError
from autoscaling.fairness import TierRule
from autoscaling.simulator.study import TIERS as STUDIED
from dashboards.objectives import load_objectives


@pytest.fixture
def data() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(TIERS_FILE.read_text())
    return loaded


def write(folder: Path, data: object) -> Path:
    file = folder / "tiers.yaml"
    file.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
    return file


def test_the_tiers_that_are_promised() -> None:
    tiers = Tiers.load()
    found = {
        name: (tier.generations_per_hour, tier.max_duration_s, tier.running, tier.max_tracks)
        for name, tier in tiers.tiers.items()
    }
    assert found == {"free": (10, 30, 1, 2), "pro": (100, 300, 4, 4), "enterprise": (None, 600, 32, 8)}
    assert tiers.names == ("free", "pro", "enterprise")
    assert "pro" in tiers
    assert tiers["pro"].name == "pro"
    assert tiers["pro"].deadline_s(60) == 30 + 2 * 60
    assert {name: rule.share for name, rule in tiers.rules.items()} == {"free": 0.1, "pro": 0.3, "enterprise": 0.6}
    assert tiers.rules["pro"] == TierRule(share=0.3, weight=4.0, running=4, leaves=0.05)


def test_the_simulated_tiers_are_these() -> None:
    """What the study of ``autoscaling/README.md`` shows holds for the platform as it is configured."""
    objectives = load_objectives()
    for name, tier in Tiers.load().tiers.items():
        simulated = STUDIED[name]
        assert simulated.rule == Tiers.load().rules[name]
        assert simulated.first_audio_s == objectives.threshold("ttfa", name)
        assert (simulated.deadline_c0_s, simulated.deadline_c1) == (tier.deadline.c0_s, tier.deadline.c1)
        assert (simulated.max_stream_wait_s, simulated.max_wait_s) == (tier.max_stream_wait_s, tier.max_wait_s)


def test_a_free_listener_who_is_let_in_can_be_heard_in_time() -> None:
    promised_s = load_objectives().threshold("ttfa", "free")
    assert promised_s is not None
    assert Tiers.load()["free"].max_stream_wait_s < promised_s


def test_the_tier_with_nobody_above_it_leaves_nothing_free(tmp_path: Path, data: dict[str, Any]) -> None:
    data["tiers"]["enterprise"]["queue_leaves"] = 0.1
    with pytest.raises(
        TiersError, match=r"tiers\.enterprise\.queue_leaves is 0\.1, but no tier has a larger queue_share"
    ):
        Tiers.load(write(tmp_path, data))


def test_a_tier_that_is_not_there_is_named() -> None:
    with pytest.raises(TiersError, match=r"no tier 'gold'.*free, pro, enterprise"):
        Tiers.load()["gold"]


def test_an_operator_may_add_a_tier(tmp_path: Path, data: dict[str, Any]) -> None:
    data["tiers"]["free"]["queue_share"] = 0.05
    data["tiers"]["student"] = dict(data["tiers"]["free"])
    assert Tiers.load(write(tmp_path, data))["student"].max_tracks == 2


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("max_tracks", 0, r"tiers\.free\.max_tracks: .*greater than or equal to 1"),
        ("max_tracks", "2", r"tiers\.free\.max_tracks: .*valid integer"),
        ("max_tracks", True, r"tiers\.free\.max_tracks: .*valid integer"),
        ("max_duration_s", float("nan"), r"tiers\.free\.max_duration_s: "),
        ("max_duration_s", float("inf"), r"tiers\.free\.max_duration_s: .*finite"),
        ("queued", -1, r"tiers\.free\.queued: "),
        ("queue_share", 0, r"tiers\.free\.queue_share: "),
        ("queue_leaves", 1, r"tiers\.free\.queue_leaves: .*less than or equal to 0\.9"),
        ("queue_leaves", -0.1, r"tiers\.free\.queue_leaves: .*greater than or equal to 0"),
        ("queue_leaves", None, r"tiers\.free\.queue_leaves: .*valid number"),
        ("queue_share", 0.9, r"queue_share add up to 1\.8"),
        ("deadline", {"c0_s": 1, "c1": 1, "c2": 1}, r"tiers\.free\.deadline\.c2: .*not permitted"),
        ("deadline", 5, r"tiers\.free\.deadline: "),
        ("audio_s_per_day", 59, r"max_tracks × max_duration_s = 60 seconds"),
        ("queue_expiry_s", 10, r"queue_expiry_s is 10, below the longest wait of 300"),
        ("generations_per_hour", "unlimited", r"tiers\.free\.generations_per_hour: .*valid integer"),
        ("name", "gratis", r"tier 'free' has the name 'gratis'"),
        ("runing", 1, r"tiers\.free\.runing: .*not permitted"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, data: dict[str, Any], field: str, value: object, message: str) -> None:
    data["tiers"]["free"][field] = value
    with pytest.raises(TiersError, match=message):
        Tiers.load(write(tmp_path, data))


def test_a_missing_field_is_named(tmp_path: Path, data: dict[str, Any]) -> None:
    del data["tiers"]["pro"]["running"]
    with pytest.raises(TiersError, match=r"tiers\.pro\.running: Field required"):
        Tiers.load(write(tmp_path, data))


def test_without_limit_must_be_said(tmp_path: Path, data: dict[str, Any]) -> None:
    del data["tiers"]["pro"]["generations_per_hour"]
    with pytest.raises(TiersError, match=r"tiers\.pro\.generations_per_hour: Field required"):
        Tiers.load(write(tmp_path, data))


def test_a_rate_policy_is_checked_too(tmp_path: Path, data: dict[str, Any]) -> None:
    data["rates"]["login_ip"]["window_s"] = 0
    with pytest.raises(TiersError, match=r"rates\.login_ip\.window_s: "):
        Tiers.load(write(tmp_path, data))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "file: "),
        ("[]", "file: "),
        ("tiers: 3\nrates: {}", "tiers: "),
        ("tiers: {}\nrates: {}", "tiers: .*at least 1"),
        ("tiers: {Free Tier: {}}", r"tiers\.Free Tier\.name: "),
        ("tiers: {free: 3}", r"tiers\.free: "),
        ("a: [", "no YAML"),
        ("tiers: {a: {}, a: {}}", "a key occurs twice"),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TiersError, match=message):
        Tiers.load(write(tmp_path, text))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiers.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TiersError, match="no YAML in UTF-8"):
        Tiers.load(tmp_path / "tiers.yaml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TiersError, match=r"nowhere\.yaml cannot be read: No such file.*TUTTI_TIERS_FILE"):
        Tiers.load(tmp_path / "nowhere.yaml")
