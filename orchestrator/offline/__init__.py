"""Explain, test and replay a definition without a broker. Imports the machine, definition, state
and dispatch.
"""
