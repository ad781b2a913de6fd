"""Times are UTC epoch seconds in code, and ISO 8601 with milliseconds wherever they are stored or shown.

The written form has a fixed width, so that DynamoDB's string comparison orders it.
"""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_iso(seconds: float) -> str:
    """`1700000000.5` -> `2023-11-14T22:13:20.500Z`, rounded to the nearest millisecond."""
    # Not fromtimestamp() and timespec: they truncate, and so may lose a millisecond of a time from from_iso.
    moment = _EPOCH + timedelta(milliseconds=round(seconds * 1000))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parsed(text: str) -> datetime:
    """An ISO 8601 time, with its offset if it has one. RFC 3339 allows t and z in lower case.

    Raises ValueError if `text` is not such a time.
    """
    return datetime.fromisoformat(str.upper(text))  # a TypeError if it is not a text


def from_iso(text: str) -> float:
    """Epoch seconds of an ISO 8601 time, which is UTC if it has no offset.

    Raises ValueError if `text` is not such a time.
    """
    moment = parsed(text)
    try:
        return (moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except OverflowError as error:
        raise ValueError(f"{text} is before the year 1 or after 9999 in UTC") from error
