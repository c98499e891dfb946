"""The embedded broker: its process, its store, its disk. Imports policy and
wf.jetstream.embedded.
"""
