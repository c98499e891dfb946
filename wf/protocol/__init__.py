"""The wire protocol: subjects, bodies, ids, and the gate for JSON. Imports wf.errors only. No
I/O.
"""
