"""One of everything that an account can own, by the name that routes' parameters have for its id."""

from __future__ import annotations

import io
from typing import Any

import httpx2
import numpy as np
import soundfile

# Webhooks of the tests go to a port where nobody listens; only development lets them.
DEAD_END = "http://127.0.0.1:9/hook"
WITH_WEBHOOKS: dict[str, Any] = {
    "environment": "development",
    "webhook_allow_http": True,
    "webhook_allow_private": True,
}


async def owned(http: httpx2.AsyncClient) -> dict[str, str]:
    """Made through the API by whoever the client stands for."""
    body = {"prompt": "calm piano", "duration": 0.2, "num_tracks": 2}
    generation = await asked(http, "POST", "/api/v1/generate", json=body, headers={"Prefer": "wait=20"})
    assert generation["state"] == "succeeded", generation
    webhook = await asked(http, "POST", "/api/v1/webhooks", json={"url": DEAD_END})
    await asked(http, "POST", f"/api/v1/webhooks/{webhook['id']}/test")
    delivery = (await asked(http, "GET", "/api/v1/webhooks/deliveries"))["data"][0]
    key = await asked(http, "POST", "/api/v1/user/api-keys", json={"name": "of the matrix"})
    upload = await asked(
        http, "POST", "/api/v1/audio/uploads", content=second_of_noise(), headers={"Content-Type": "audio/wav"}
    )
    return {
        "generation_id": generation["id"],
        "track_id": generation["tracks"][0]["id"],
        "webhook_id": webhook["id"],
        "delivery_id": delivery["id"],
        "key_id": key["id"],
        "upload_id": upload["id"],
    }


async def asked(http: httpx2.AsyncClient, method: str, path: str, **more: Any) -> dict[str, Any]:
    """The JSON of an answer that must be a success."""
    answer = await http.request(method, path, **more)
    assert answer.is_success, (method, path, answer.status_code, answer.text)
    found: dict[str, Any] = answer.json()
    return found


def second_of_noise() -> bytes:
    """A WAV file."""
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(1).uniform(-0.5, 0.5, 32_000), 32_000, format="WAV", subtype="PCM_16")
    return file.getvalue()
