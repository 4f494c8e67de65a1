"""Client order ids: installation, bot, counter and wall time in at most 36 characters."""

from __future__ import annotations

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


def base36(number: int) -> str:
    digits = ""
    while number:
        number, rest = divmod(number, 36)
        digits = _ALPHABET[rest] + digits
    return digits or "0"


def client_id(installation: str, bot_id: int, number: int, wall_ms: int) -> str:
    """Installation, bot, counter and wall time: attributable, and never the same twice even
    where an old copy of the position file is restored (36 characters at most)."""
    made = f"by{installation}-{bot_id}-{number}-{base36(wall_ms)}"
    if len(made) > 36:
        raise ValueError(f"client order id {made} is longer than 36 characters")
    return made


def owner_of(order_client_id: str, installation: str) -> int | None:
    """The bot of this yard that an order id belongs to, None for a foreign one."""
    parts = order_client_id.split("-")
    if len(parts) == 4 and parts[0] == f"by{installation}" and parts[1].isdigit():
        return int(parts[1])
    return None


def number_of(order_client_id: str) -> int:
    """The counter in an id of ours; -1 in any other."""
    parts = order_client_id.split("-")
    return int(parts[2]) if len(parts) == 4 and parts[2].isascii() and parts[2].isdigit() else -1


def wall_ms_of(order_client_id: str) -> int:
    """The wall time in an id of ours, ms: when its intent was written; 0 in any other."""
    last = order_client_id.split("-")[-1]
    return int(last, 36) if number_of(order_client_id) >= 0 and last.isascii() and last.isalnum() else 0
