"""An activity: a plain function. Edit it while the pool runs: its workers are replaced."""

from wf import activity


@activity
def hello(name: str) -> dict[str, str]:
    """Greet somebody."""
    return {"greeting": f"Hello, {name}!"}
