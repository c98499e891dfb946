"""run: shell and run: script: programs that leave nothing behind."""
