"""The control socket, the commands that use it, and what they show. Imports processes and
policy.
"""
