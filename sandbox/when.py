"""Ways of writing a time."""

from datetime import UTC, datetime


def utc(at: float) -> datetime:
    """Seconds since the epoch as a UTC time."""
    return datetime.fromtimestamp(at, UTC)


def millis_z(at: float) -> str:
    """RFC 3339 with milliseconds and Z."""
    return utc(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def micros_z(at: float) -> str:
    """RFC 3339 with microseconds and Z."""
    return utc(at).isoformat(timespec="microseconds").replace("+00:00", "Z")


def compact(at: float) -> str:
    """Year to second, fourteen digits."""
    return utc(at).strftime("%Y%m%d%H%M%S")


def millis(at: float) -> int:
    """Milliseconds since the epoch."""
    return int(at * 1000)
