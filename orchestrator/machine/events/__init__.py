"""listen, signals, and the keys and sets by which events find instances. Imports flow and the
kernel. Pure.
"""
