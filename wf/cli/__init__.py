"""The command `wf`: one file for each command. Imports wf.client; other packages by name."""
