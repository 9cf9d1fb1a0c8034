"""Headers that every answer has, and those no client may send: for the application and the proxy before it."""

from __future__ import annotations

# With these a client could tell Ray Serve to go on after a disconnect, to drop timeouts or to pick a replica.
CONTROL_HEADERS = frozenset(
    {
        b"x-request-disconnect-disabled",
        b"x-request-timeout-seconds",
        b"x-session-id",
        b"x_session_id",
        b"serve_multiplexed_model_id",
        b"serve-multiplexed-model-id",  # the form that some proxies turn it into; Serve reads both
        b"x-request-id",  # always minted here
    }
)
API_POLICY = "default-src 'none'; frame-ancestors 'none'"
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
