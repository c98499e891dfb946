"""Messages to customers. One pool serves several activities: [workers.office]."""

from wf import Context, activity


@activity
async def send_mail(to: str, subject: str, text: str, context: Context) -> dict[str, str]:
    """Send a mail; the idempotency key is its Message-ID, so a second attempt is no second mail."""
    message_id = f"<{context.idempotency_key}@orders.example>"
    context.logger.bind(to=to, subject=subject, size=len(text)).info("mail.sent")
    return {"message_id": message_id, "to": to}


@activity
def send_sms(to: str, text: str) -> dict[str, object]:
    """Send a text message, cut to what fits into one."""
    return {"to": to, "characters": len(text[:160])}
