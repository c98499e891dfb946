"""Activities of the other example workflows in config/workflows: trips, thumbnails, reports.

They stand in for booking systems, an image library and a database: no network, and the same input
gives the same output. One worker process serves them beside the mails: [workers.office].
"""

import hashlib

from pydantic import BaseModel

from wf import NonRetryable, activity


class Trip(BaseModel):
    traveller: str
    city: str
    full: str = ""  # what is sold out


@activity
def book(what: str, trip: Trip) -> dict[str, str]:
    """Book a flight, a hotel or a car."""
    if trip.full == what:
        raise NonRetryable(f"no {what} is left in {trip.city}", title="Sold out", status=409)
    return {"booking": f"{what}-{_digest(what, trip.traveller, trip.city)}"}


@activity
def cancel_booking(booking: str) -> dict[str, str]:
    """Undo `book`. Cancelling twice is no error."""
    return {"cancelled": booking}


@activity
def shrink_image(rows: list[list[int]], factor: int) -> list[list[int]]:
    """A grey picture (rows of 0 to 255), each `factor` × `factor` block as one pixel."""
    return [
        [_mean(rows, top, left, factor) for left in range(0, len(rows[0]), factor)]
        for top in range(0, len(rows), factor)
    ]


def _mean(rows: list[list[int]], top: int, left: int, factor: int) -> int:
    block = [pixel for row in rows[top : top + factor] for pixel in row[left : left + factor]]
    return sum(block) // len(block)


@activity
def sum_sales(day: str) -> dict[str, int]:
    """What was sold on a day."""
    orders = int(_digest(day)[:2], 16)
    return {"orders": orders, "total_cents": orders * 1_990}


def _digest(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:8]
