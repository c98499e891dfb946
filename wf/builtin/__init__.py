"""Built-in activities: what `call: http`, `call: openapi`, `run: shell` and `run: script` run.

They are activities like any other, imported only in their workers, after the fork; httpx even
only at the first call, so that an idle worker costs no more than any other.
"""
