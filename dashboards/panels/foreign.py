"""Series that dashboards query and that this platform's catalogue does not hold: Ray's.

The names of Ray's are as Ray 2.60 exports them: its own with the prefix ``ray_``, counters with ``_total``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_NODE: Final = ("ip", "SessionName", "IsHeadNode")
_DEPLOYMENT: Final = ("application", "deployment")

RAY: Final[Mapping[str, tuple[str, ...]]] = {
    "ray_node_cpu_utilization": _NODE,
    "ray_node_mem_used": _NODE,
    "ray_node_mem_total": _NODE,
    "ray_node_disk_usage": _NODE,
    "ray_node_disk_free": _NODE,
    "ray_node_network_receive_speed": _NODE,
    "ray_node_network_send_speed": _NODE,
    "ray_node_gpus_utilization": (*_NODE, "GpuIndex"),
    "ray_node_gram_used": (*_NODE, "GpuIndex"),
    "ray_node_gram_available": (*_NODE, "GpuIndex"),
    "ray_actors": ("State", "Name"),
    "ray_object_store_memory": ("Location",),
    "ray_resources": ("Name", "State"),
    "ray_serve_deployment_replica_healthy": _DEPLOYMENT,
    "ray_serve_deployment_queued_queries": _DEPLOYMENT,
    "ray_serve_replica_processing_queries": _DEPLOYMENT,
    "ray_serve_deployment_request_counter_total": _DEPLOYMENT,
    "ray_serve_deployment_error_counter_total": _DEPLOYMENT,
    "ray_serve_deployment_replica_starts_total": _DEPLOYMENT,
    "ray_serve_controller_control_loop_duration_s": ("actor_id",),
    "ray_serve_num_http_requests_total": ("application", "route", "method", "status_code"),
    "ray_serve_num_ongoing_http_requests": ("node_id",),
}
"""Labels that queries may use, by the name of a series."""
