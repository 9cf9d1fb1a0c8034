"""Ray Serve: one deployment per model size, the ingress over them, and the platform that starts both."""
