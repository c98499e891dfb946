"""Calls of activities and child workflows: attempts, deadlines, heartbeats, try and retry. Imports
flow and the
kernel. Pure.
"""
