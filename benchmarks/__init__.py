"""Measurements of the real pool. Separate from the tests: nothing here asserts a time."""
