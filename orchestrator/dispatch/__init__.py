"""TaskDispatcher: the outbox of a commit, and its relay to the streams. Imports state, the machine
and wf.
"""
