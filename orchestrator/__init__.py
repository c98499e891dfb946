"""The engine process: its entry point, and one room for each of its components. Imports wf."""
