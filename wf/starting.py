"""What `Client.start_many` takes: `from wf.starting import Start`."""

from wf.client.start import Start, Started

__all__ = ["Start", "Started"]
