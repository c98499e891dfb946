"""One step: frames, runs, timers, expressions, and how tasks and instances end. Imports definition,
expressions and wf.protocol. Pure.
"""
