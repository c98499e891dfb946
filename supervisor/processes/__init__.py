"""Fork, watch, replace, end. Imports policy and wf.process."""
