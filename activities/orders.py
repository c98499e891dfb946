"""Activities of the order workflow: config/workflows/order.yaml calls them by name.

They stand in for a warehouse, a payment provider and a carrier: no network, and the same input
gives the same output. Copy this file to begin your own; a file dropped here is found by itself.
"""

import asyncio
import hashlib

from pydantic import BaseModel, Field

from wf import Context, NonRetryable, Retry, activity

PRICES_CENTS = {"A1": 1_990, "B2": 4_950, "C3": 12_900}
OUT_OF_STOCK = {"Z9"}
DECLINED_CARD = "4000"  # the bank says no, every time
UNSTEADY_CARD = "4444"  # the provider does not answer at first
UNREACHABLE_CARD = "4445"  # it never answers
BUSY_LAST_DIGIT = 3  # the carrier is busy once for orders whose number ends like this


class Item(BaseModel):
    sku: str
    qty: int = Field(gt=0)


@activity
def reserve_stock(order_id: int, items: list[Item]) -> dict[str, object]:
    """Put the items of an order aside and say what they cost."""
    missing = [item.sku for item in items if item.sku in OUT_OF_STOCK]
    if missing:
        raise NonRetryable(f"out of stock: {', '.join(missing)}", title="Out of stock", status=409)
    total = sum(PRICES_CENTS.get(item.sku, 1_000) * item.qty for item in items)
    return {"reservation": _reference("R", order_id), "total_cents": total}


@activity(timeout="20s")
async def charge_card(
    order_id: int, card: str, amount_cents: int, context: Context
) -> dict[str, object]:
    """Charge the card. The key makes a second attempt safe: it is the same charge."""
    await asyncio.sleep(0.05)  # the provider takes a moment
    if card == DECLINED_CARD:
        raise NonRetryable("card 4000 was declined", title="Card declined", status=402)
    if card == UNREACHABLE_CARD or (card == UNSTEADY_CARD and context.attempt == 1):
        raise ConnectionError("the payment provider did not answer")
    context.logger.bind(amount_cents=amount_cents).info("card.charged")
    return {
        "payment": _reference("P", context.idempotency_key),
        "amount_cents": amount_cents,
        "attempts": context.attempt,
    }


@activity
def release_stock(order_id: int, reservation: str) -> dict[str, object]:
    """Undo reserve_stock."""
    return {"released": reservation}


@activity(retry=Retry(max_attempts=3, delay="500ms"))
def ship_order(order_id: int, reservation: str, context: Context) -> dict[str, object]:
    """Hand the parcel to the carrier."""
    if order_id % 10 == BUSY_LAST_DIGIT and context.attempt == 1:
        raise ConnectionError("the carrier is busy")
    return {
        "tracking": _reference("T", reservation),
        "carrier": "post",
        "attempts": context.attempt,
    }


def _reference(kind: str, key: object) -> str:
    return f"{kind}-{hashlib.sha256(str(key).encode()).hexdigest()[:10]}"
