"""Truncated backpropagation through time, with fixed and adaptive truncation."""
