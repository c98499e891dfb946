"""The broker: one narrow port, its real implementation, streams, consumers, permissions. Imports
wf.protocol,
wf.process and wf.settings.
"""
