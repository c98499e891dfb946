"""Orchestrator: decide and commit, group by group. Imports every room but cloudevents, concurrency
and
offline.
"""
