"""What goes through the doors, and how Ray Serve's deployments are."""

from __future__ import annotations

from dashboards.builder.look import Style, Unit, worse_above
from dashboards.builder.model import BarGauge, Row, Target, TimeSeries
from dashboards.panels.queries import increase, rate, share, total

HTTP = "tutti_http_requests_total"
HEALTHY = "ray_serve_deployment_replica_healthy"

HTTP_ROW = Row(
    "HTTP",
    (
        TimeSeries(
            "Responses by status",
            "Responses per second. 499 is a client that left before the response began.",
            "5xx without a burst; 401 or 403 in numbers: somebody tries keys.",
            (Target(rate(HTTP, by="status"), "{{status}}"),),
            unit=Unit.PER_SECOND,
            stacked=True,
        ),
        TimeSeries(
            "Responses by route",
            "Responses per second by route, the ten busiest.",
            "A route that multiplies: a client polls without waiting.",
            (Target(f"topk(10, {rate(HTTP, by='method, route')})", "{{method}} {{route}}"),),
            unit=Unit.PER_SECOND,
        ),
        TimeSeries(
            "Listeners by kind",
            "Open streams of events.",
            "A cliff: a proxy or an ingress replica went away.",
            (Target(total("tutti_listeners", by="kind"), "{{kind}}"),),
            stacked=True,
        ),
        TimeSeries(
            "Requests through Ray's proxies",
            "As Ray Serve counts them, by application and status. They should agree with ours.",
            "When they do not: requests are lost between the proxy and the gateway.",
            (
                Target(
                    rate("ray_serve_num_http_requests_total", by="application, status_code"),
                    "{{application}} {{status_code}}",
                ),
            ),
            unit=Unit.PER_SECOND,
        ),
    ),
)

SERVE = Row(
    "Ray Serve",
    (
        TimeSeries(
            "Healthy replicas",
            "Replicas that pass their health check, by deployment.",
            "A dip: a replica died or hangs, and is replaced.",
            (Target(total(HEALTHY, by="deployment"), "{{deployment}}"),),
            width=8,
        ),
        TimeSeries(
            "Calls in progress",
            "Calls that replicas work on, by deployment, and those that wait for one.",
            "Waiting calls to a deployment that is not full: its replicas hang.",
            (
                Target(total("ray_serve_replica_processing_queries", by="deployment"), "{{deployment}}"),
                Target(
                    total("ray_serve_deployment_queued_queries", by="deployment"),
                    "{{deployment}}, waiting",
                    style=Style.BOUND,
                ),
            ),
            width=8,
        ),
        TimeSeries(
            "Errors",
            "Share of the calls to each deployment that ended in an exception.",
            "Any that last.",
            (
                Target(
                    share(
                        rate("ray_serve_deployment_error_counter_total", by="deployment"),
                        rate("ray_serve_deployment_request_counter_total", by="deployment"),
                    ),
                    "{{deployment}}",
                ),
            ),
            unit=Unit.RATIO,
            width=8,
            empty="No call has failed",
        ),
        BarGauge(
            "Starts of replicas",
            "How many replicas were started over what is shown, by deployment.",
            "More than the autoscaler's decisions and the deploys explain: replicas crash.",
            (Target(increase("ray_serve_deployment_replica_starts_total", by="deployment"), "{{deployment}}"),),
            decimals=0,
        ),
        TimeSeries(
            "Requests being answered",
            "HTTP requests that Ray's proxies hold open now.",
            "When it only grows.",
            (Target(total("ray_serve_num_ongoing_http_requests"), "open"),),
            width=8,
        ),
        TimeSeries(
            "Controller's loop",
            "Seconds that one round of Ray Serve's controller takes: health checks and scaling wait for it.",
            "Above 1 s: scaling comes late.",
            (Target("max(ray_serve_controller_control_loop_duration_s)", "round"),),
            unit=Unit.SECONDS,
            thresholds=worse_above(0.5, 1),
            threshold_lines=True,
            width=8,
        ),
    ),
)
