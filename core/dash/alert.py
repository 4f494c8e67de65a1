"""A message that a person sends from the page, to see whether messages arrive. Owns no file: the outbox takes it (core/notify)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.dash.board import Board
from core.errors import Conflict, InputError
from core.model import Event
from core.notify import channels, post

TEXT = "Test message from Botyard's dashboard"


def send(board: Board, given: Mapping[str, Any]) -> dict[str, Any]:
    """Put `{"message"?: text}` into the outbox: `{"channels", "note"}`. InputError; Conflict where no channel is set up."""
    text = given.get("message", TEXT)
    if not isinstance(text, str) or not 1 <= len(text.strip()) <= 500:
        raise InputError("message: must be a text of 1 to 500 characters")
    ready = channels.names(board.settings)
    if not ready:
        raise Conflict(
            "No way to send a message is set up; put TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN, TWILIO_FROM and SMS_TO (SMS) "
            "or TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID (Telegram) into .env and start the dashboard again"
        )
    clean = "".join(c if c.isprintable() else " " for c in text.strip())
    post(board.files, Event("alert", clean, "warning", wall_ms=board.clock_ms(), data={"by": "dashboard"}))
    return {"channels": ready, "note": "The message is in the outbox; the yard sends it."}
