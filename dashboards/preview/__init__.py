"""`tutti slo preview`: any dashboard from a live Prometheus as one static page, where there is no Grafana."""
