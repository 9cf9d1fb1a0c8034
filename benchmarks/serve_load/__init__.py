"""``tutti bench serve``: listeners and jobs sent to a running platform on a schedule, and what became of them."""
