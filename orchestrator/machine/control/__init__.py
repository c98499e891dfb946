"""What operators and the shell tell an instance: commands, retry, concurrency slots. Imports the
rooms beside it.
Pure.
"""
