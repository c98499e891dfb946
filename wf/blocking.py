"""The client for programs without asyncio: `from wf.blocking import BlockingClient`."""

from wf.client.blocking import BlockingClient

__all__ = ["BlockingClient"]
