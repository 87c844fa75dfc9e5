"""Answers the body it was sent, with its content type."""

from typing import Any


def handle(event: Any, _context: Any) -> dict[str, Any]:
    content_type = event.headers.get("Content-Type", "application/octet-stream")
    return {"statusCode": 200, "body": event.body, "headers": {"Content-Type": content_type}}
