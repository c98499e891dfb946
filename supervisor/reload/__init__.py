"""Configuration, and what happens when it or the code changes. Imports processes and policy."""
