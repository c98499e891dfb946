"""The monitor process: what the supervisor sees and the broker holds, told to the other side.

It reports the tasks of dead workers to the engine, and the pools and their backlog to whoever asks.
The supervisor has no connection to the broker, and the monitor no power over processes.
"""
