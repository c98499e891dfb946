"""Python clients: start, ask, steer. Imports wf.jetstream, wf.protocol and wf.settings."""
