"""Tasks that wait for nobody outside: do, set, switch, for, fork, wait, emit. Imports the kernel.
Pure.
"""
