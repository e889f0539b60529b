"""All policies on several tasks, each at its own best learning rate: `make compare` writes docs/comparison.md."""
