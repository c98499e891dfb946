"""The worker process. Imports wf.authoring, wf.jetstream, wf.process and wf.protocol."""
