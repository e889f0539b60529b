"""What the project's speed is measured against: `make bench`, or `python -m benchmarks probe training sweep`."""
