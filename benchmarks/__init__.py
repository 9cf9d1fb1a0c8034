"""What is measured, and how: see the README. Run with `make bench` and `tutti bench engine`."""
