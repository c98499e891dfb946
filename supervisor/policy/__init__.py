"""Pure decisions: what should run, when to restart, what hangs, how many."""
