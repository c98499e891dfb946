"""CloudEvents on their way to listeners and triggers. Imports registry, dispatch, ingest, the
machine
and wf.
"""
