"""The supervisor process: its entry point, main loop and launch. One thread, no event loop, no
broker.
Imports wf.settings and wf.process.
"""
