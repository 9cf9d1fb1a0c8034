"""Below the platform: Ray Serve's deployments, the processes' doors, and the machines."""

from __future__ import annotations

from dashboards.builder.look import Unit, worse_above, worse_below
from dashboards.builder.model import Dashboard, Row, Stat, Target, TimeSeries
from dashboards.panels.queries import or_zero, rate, share, share_of_all, total
from dashboards.panels.ray_serve import HEALTHY, HTTP, HTTP_ROW, SERVE

NO_GPU = "No GPU on these nodes"
MEMORY = share("ray_node_mem_used", "ray_node_mem_total")
OBJECTS = share(total("ray_object_store_memory"), total("ray_resources", 'Name="object_store_memory"'))


ANSWER = Row(
    "Are we OK?",
    (
        Stat(
            "Unhealthy replicas",
            "Replicas of any deployment that fail their health check.",
            "Any for longer than a restart takes.",
            (Target(or_zero(f"count({HEALTHY} == 0)"), "unhealthy"),),
            thresholds=worse_above(1, 2),
            decimals=0,
        ),
        Stat(
            "Server errors",
            "Share of HTTP responses that are 5xx. 503 with Retry-After, when there is no room, is among them.",
            "Above 0.1 % without a burst of traffic.",
            (Target(share(rate(HTTP, 'status=~"5.."') + " or vector(0)", rate(HTTP)), "5xx"),),
            unit=Unit.RATIO,
            thresholds=worse_above(0.001, 0.01),
            decimals=2,
        ),
        Stat(
            "Busiest node",
            "Processor use of the busiest node, of all its cores.",
            "Above 90 % with engines on it: steps become slower.",
            (Target("max(ray_node_cpu_utilization)", "cpu"),),
            unit=Unit.PERCENT,
            thresholds=worse_above(80, 95),
            decimals=0,
        ),
        Stat(
            "Fullest memory",
            "Memory in use on the fullest node. Ray kills workers at 95 %.",
            "Above 85 %.",
            (Target(f"max({MEMORY})", "memory"),),
            unit=Unit.RATIO,
            thresholds=worse_above(0.8, 0.9),
            decimals=0,
        ),
        Stat(
            "Fullest disk",
            "Disk in use on the fullest node.",
            "Above 85 %: audio and databases can soon not be written.",
            (Target("max(ray_node_disk_usage / (ray_node_disk_usage + ray_node_disk_free))", "disk"),),
            unit=Unit.RATIO,
            thresholds=worse_above(0.8, 0.9),
            decimals=0,
        ),
        Stat(
            "Listeners of events",
            "Open streams of events: server-sent events and WebSockets.",
            "When it only grows: they are not closed.",
            (Target(or_zero(total("tutti_listeners")), "listeners"),),
            decimals=0,
        ),
    ),
)

NODES = Row(
    "Nodes",
    (
        TimeSeries(
            "Processor",
            "Use of each node's cores.",
            "Above 90 % on a node with engines.",
            (Target("max by (ip) (ray_node_cpu_utilization)", "{{ip}}"),),
            unit=Unit.PERCENT,
            maximum=100,
            width=8,
        ),
        TimeSeries(
            "Memory",
            "Share of each node's memory that is in use.",
            "Above 85 %; Ray kills workers at 95 %.",
            (Target(f"max by (ip) ({MEMORY})", "{{ip}}"),),
            unit=Unit.RATIO,
            maximum=1,
            thresholds=worse_above(0.85, 0.95),
            threshold_lines=True,
            width=8,
        ),
        TimeSeries(
            "Network",
            "Bytes per second in and out, all nodes.",
            "Out that is flat at the top: the link is full, and streams stall.",
            (
                Target(total("ray_node_network_receive_speed"), "in"),
                Target(total("ray_node_network_send_speed"), "out"),
            ),
            unit=Unit.BYTES_PER_SECOND,
            width=8,
        ),
        TimeSeries(
            "GPU",
            "Use of each GPU.",
            "Low with a backlog: the host keeps it waiting.",
            (Target("max by (ip, GpuIndex) (ray_node_gpus_utilization)", "{{ip}} GPU {{GpuIndex}}"),),
            unit=Unit.PERCENT,
            maximum=100,
            width=8,
            empty=NO_GPU,
        ),
        TimeSeries(
            "GPU memory",
            "Share of each GPU's memory that is in use.",
            "Above 95 %: the next start of a replica fails.",
            (
                Target(
                    "max by (ip, GpuIndex) (ray_node_gram_used / (ray_node_gram_used + ray_node_gram_available))",
                    "{{ip}} GPU {{GpuIndex}}",
                ),
            ),
            unit=Unit.RATIO,
            maximum=1,
            width=8,
            empty=NO_GPU,
        ),
        TimeSeries(
            "Ray's object store",
            "Share of the shared memory for objects that is in use.",
            "Above 80 %: objects spill to disk. Tutti's streams do not go through it.",
            (Target(OBJECTS, "in use"),),
            unit=Unit.RATIO,
            maximum=1,
            thresholds=worse_above(0.8, 0.95),
            width=8,
        ),
        TimeSeries(
            "Actors by state",
            "Ray's actors: replicas, proxies and the controller among them.",
            "PENDING_CREATION that stays: there is no room for a replica. DEAD that grows: they crash.",
            (Target(total("ray_actors", by="State"), "{{State}}"),),
            width=12,
        ),
        TimeSeries(
            "Processors given away",
            "Share of the logical processors that Ray has given to actors.",
            "At 100 %: the next replica waits for a place.",
            (
                Target(
                    share_of_all(
                        total("ray_resources", 'Name="CPU",State="USED"'), total("ray_resources", 'Name="CPU"')
                    ),
                    "given",
                ),
            ),
            unit=Unit.RATIO,
            maximum=1,
            width=12,
        ),
    ),
)

SCRAPING = Row(
    "What is measured",
    (
        Stat(
            "Targets up",
            "Share of the processes that should be scraped and answer.",
            "Below 100 %: figures above lack somebody.",
            (Target("avg(up)", "up"),),
            unit=Unit.RATIO,
            thresholds=worse_below(1, 0.9),
            width=8,
            height=6,
        ),
        TimeSeries(
            "Targets by job",
            "Processes that answer, by job.",
            "A step downwards that is no scale-down.",
            (Target("sum by (job) (up)", "{{job}}"),),
            width=16,
            height=6,
        ),
    ),
)

RAY_NODES = Dashboard(
    "ray-nodes",
    "Tutti: Ray and nodes",
    "Below the platform: HTTP, Ray Serve's deployments, machines, and what Prometheus sees of them.",
    (ANSWER, HTTP_ROW, SERVE, NODES, SCRAPING),
)
