"""How many instances of a workflow may run at once. Imports registry, dispatch, ingest, the
machine and
wf.
"""
