"""What activity modules import, and how modules are found, read and loaded. Imports wf.protocol
and wf.errors.
"""
