"""What is measured, and how: see the README. Run with `make bench` and `make bench-engine`."""
