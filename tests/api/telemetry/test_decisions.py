"""Good, bad or not eligible, for every way in which a request may end."""

from __future__ import annotations

import pytest

from api.errors import ErrorCode
from api.telemetry.decisions import JobFacts, StreamFacts, is_goodput, judge_job, judge_stream
from api.telemetry.refusals import classify

ALL_GOOD = {"success": True, "ttfa": True, "continuity": True, "validity": True}


@pytest.mark.parametrize(
    ("facts", "verdicts"),
    [
        (StreamFacts("completed", 12.0, 0.8, 0.0, valid=True), ALL_GOOD),
        (StreamFacts("completed", 9.0, 1.0, 0.25, valid=True), ALL_GOOD),
        (StreamFacts("completed", 9.0, 1.01, 0.26, valid=False), {**dict.fromkeys(ALL_GOOD, False), "success": True}),
        (StreamFacts("failed", 5.0, 0.5, 0.0, None), {"success": False, "ttfa": True, "continuity": True}),
        (StreamFacts("failed", 0.5, None, None, None), {"success": False}),
        (StreamFacts("timeout", 60.0, None, None, None), {"success": False, "ttfa": False}),
        (StreamFacts("cancelled", 0.9, None, None, None), {}),
        (StreamFacts("cancelled", 1.1, None, None, None), {"ttfa": False}),
        (StreamFacts("cancelled", 3.0, 0.5, 2.0, None), {"ttfa": True, "continuity": False}),
    ],
    ids=["good", "at the thresholds", "all bad", "failed on the way", "failed at once", "expired", "left early",
         "left when it had taken too long", "left after a stall"],
)  # fmt: skip
def test_streams(facts: StreamFacts, verdicts: dict[str, bool]) -> None:
    assert judge_stream(facts, first_audio_within_s=1.0, stall_within_s=0.25) == verdicts


@pytest.mark.parametrize(
    ("facts", "verdicts"),
    [
        (JobFacts("completed", 0.0, valid=True), {"success": True, "deadline": True, "validity": True}),
        (JobFacts("completed", -0.1, valid=True), {"success": True, "deadline": False, "validity": True}),
        (JobFacts("failed", 5.0, None), {"success": False}),
        (JobFacts("failed", -5.0, valid=False), {"success": False, "deadline": False, "validity": False}),
        (JobFacts("timeout", -5.0, None), {"success": False, "deadline": False}),
        (JobFacts("cancelled", 5.0, None), {}),
        (JobFacts("cancelled", -5.0, None), {"deadline": False}),
    ],
)
def test_jobs(facts: JobFacts, verdicts: dict[str, bool]) -> None:
    assert judge_job(facts) == verdicts


def test_goodput_kept_every_promise() -> None:
    assert is_goodput("completed", {"success": True, "ttfa": True})
    assert not is_goodput("completed", {"success": True, "ttfa": False})
    assert not is_goodput("cancelled", {})


def test_every_error_has_its_class() -> None:
    shed = {code for code in ErrorCode if classify(code.status, code)[0] == "rejected_capacity"}
    own = {code: classify(code.status, code)[1] for code in ErrorCode if code.status == 429}
    assert shed == {ErrorCode.SYSTEM_OVERLOADED}
    assert own == {
        ErrorCode.QUOTA_EXCEEDED: "quota",
        ErrorCode.CONCURRENCY_LIMIT_EXCEEDED: "concurrency",
        ErrorCode.RATE_LIMITED: "rate_limit",
    }
    for code in set(ErrorCode) - shed - own.keys():
        expected = ("failed", "error") if code.status >= 500 else ("rejected_invalid", "invalid")
        assert classify(code.status, code) == expected, code
    assert classify(None, None) == ("cancelled", "left")
