"""For users of Locust (https://locust.io): the same kinds of listeners as closed-loop users.

    pip install locust
    locust --locustfile benchmarks/locustfile.py --host http://127.0.0.1:8000
    TUTTI_API_KEY=sk_live_… locust --locustfile benchmarks/locustfile.py --host https://tutti.example --users 20

A Locust user waits for its answer before it sends the next request, so a slow server is sent less load: for service
levels and limits use ``tutti bench serve``, whose schedule waits for nobody.

Besides the requests themselves the statistics show "first audio" (0.25 s of it) and "stall" (of a player with 0.5 s of
audio in advance), in milliseconds.
"""
# Locust is no dependency of this repository, so its types are not known here.
# mypy: disable-error-code="import-not-found, misc, untyped-decorator"

from __future__ import annotations

import os
import random
import time
from typing import Any

from locust import HttpUser, between, task

PROMPTS = ("calm piano in C major", "lo-fi hip hop, soft drums", "fast drum and bass", "an acoustic guitar at dusk")
LENGTHS_S = (2.0, 4.0, 8.0)
FIRST_AUDIO_S, PREBUFFER_S = 0.25, 0.5
BYTES_PER_SAMPLE = 2
READ_S = 0.05
"""Of audio at once: a body of known length is handed out whole, at its end, to whoever asks for what there is."""
LONGEST_WAIT_S = 60


class Listener(HttpUser):
    """Mostly listens; now and then asks for a track and waits for it, or leaves in the middle."""

    wait_time = between(1, 5)

    def on_start(self) -> None:
        if key := os.environ.get("TUTTI_API_KEY"):
            self.client.headers["Authorization"] = f"Bearer {key}"

    @task(8)
    def listen(self) -> None:
        self._stream(leaves_after_s=float("inf"))

    @task(1)
    def leave_in_the_middle(self) -> None:
        self._stream(leaves_after_s=1.0)

    @task(1)
    def job(self) -> None:
        headers = {"Prefer": f"wait={LONGEST_WAIT_S}"}
        with self.client.post("/api/v1/generate", json=_music(), headers=headers, catch_response=True) as answer:
            if answer.status_code not in (200, 202):
                answer.failure(_code(answer))
            elif answer.status_code == 200 and answer.json()["state"] != "succeeded":
                answer.failure(answer.json()["state"])

    def _stream(self, leaves_after_s: float) -> None:
        began = time.perf_counter()
        body = {**_music(), "format": "pcm"}
        with self.client.post("/api/v1/generate/stream", json=body, stream=True, catch_response=True) as answer:
            if answer.status_code != 200:
                answer.failure(_code(answer))
                return
            rate = int(answer.headers["X-Sample-Rate"]) * int(answer.headers["X-Channels"]) * BYTES_PER_SAMPLE
            total_s = float(answer.headers["X-Audio-Duration"])
            received_s = self._play(answer, began, rate, total_s, leaves_after_s)
            answer.close()  # who leaves in the middle hangs up
            if received_s < min(total_s, leaves_after_s) - 1 / rate:
                answer.failure("truncated")

    def _play(self, answer: Any, began: float, rate: int, total_s: float, leaves_after_s: float) -> float:
        """Seconds of audio that came."""
        received_s, stall_s, is_first = 0.0, 0.0, True
        started_at: float | None = None
        for piece in answer.iter_content(chunk_size=round(READ_S * rate)):
            now = time.perf_counter()
            if started_at is not None:
                stall_s = max(stall_s, now - started_at - received_s)
            received_s += len(piece) / rate
            if is_first and received_s >= min(FIRST_AUDIO_S, total_s):
                is_first = False
                self._tell("first audio", now - began)
            if started_at is None and received_s >= min(PREBUFFER_S, total_s):
                started_at = now
            if received_s >= leaves_after_s:
                break
        self._tell("stall", stall_s)
        return received_s

    def _tell(self, name: str, seconds: float) -> None:
        self.environment.events.request.fire(
            request_type="audio", name=name, response_time=1000 * seconds, response_length=0, exception=None, context={}
        )


def _music() -> dict[str, Any]:
    return {"prompt": random.choice(PROMPTS), "duration": random.choice(LENGTHS_S), "seed": random.randrange(2**31)}


def _code(answer: Any) -> str:
    try:
        return str(answer.json()["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"
