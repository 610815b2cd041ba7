"""The part of CBOR (RFC 8949) that control messages are made of.

Integers, byte and text strings, arrays, maps with text keys, booleans and null, all of definite length. Not a
library's work because both ends read what a hostile peer wrote and pay for every import each time a command
starts: checking the input before a general decoder may see it takes as much code as decoding it, and importing one
costs a quarter of the whole start.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Value: TypeAlias = int | bytes | str | bool | list["Value"] | dict[str, "Value"] | None

DEPTH_MAX = 4

_UINT, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_CONSTANTS: "dict[int, bool | None]" = {20: False, 21: True, 22: None}


class CborError(ValueError):
    """Not CBOR, or not of the part that is spoken here."""


def encode(value: "Value") -> bytes:
    """*value* in its shortest form. Raises TypeError, or OverflowError for an integer beyond 64 bits."""
    if value is None:
        return b"\xf6"
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return _head(_UINT, value) if value >= 0 else _head(_NEGATIVE, -1 - value)
    if isinstance(value, bytes):
        return _head(_BYTES, len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        return _head(_TEXT, len(text)) + text
    if isinstance(value, list):
        return _head(_ARRAY, len(value)) + b"".join([encode(item) for item in value])
    if isinstance(value, dict):
        return _head(_MAP, len(value)) + b"".join([encode(key) + encode(item) for key, item in value.items()])
    raise TypeError(f"no CBOR for {type(value).__name__}")


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes((major << 5 | number,))
    size = 0 if number < 1 << 8 else 1 if number < 1 << 16 else 2 if number < 1 << 32 else 3
    return bytes((major << 5 | 24 + size,)) + number.to_bytes(1 << size, "big")


def decode(encoded: bytes) -> "Value":
    """The one value that *encoded* is. Raises CborError; needs memory in proportion to the input's length."""
    value, end = _item(encoded, 0, DEPTH_MAX)
    if end != len(encoded):
        raise CborError("bytes after the end")
    return value


def _item(encoded: bytes, at: int, depth: int) -> "tuple[Value, int]":
    major, number, at = _read_head(encoded, at)
    if major == _UINT:
        return number, at
    if major == _NEGATIVE:
        return -1 - number, at
    if major == _SIMPLE:
        return _CONSTANTS[number], at
    if number > len(encoded) - at:  # every item of an array takes a byte at least
        raise CborError("length beyond the end")
    if major == _BYTES:
        return encoded[at : at + number], at + number
    if major == _TEXT:
        return _text(encoded[at : at + number]), at + number
    if not depth:
        raise CborError("nested too deeply")
    if major == _ARRAY:
        items: list[Value] = []
        for _ in range(number):
            item, at = _item(encoded, at, depth - 1)
            items.append(item)
        return items, at
    return _map(encoded, at, number, depth - 1)


def _map(encoded: bytes, at: int, number: int, depth: int) -> "tuple[Value, int]":
    items: dict[str, Value] = {}
    for _ in range(number):
        key, at = _item(encoded, at, 0)
        if not isinstance(key, str) or key in items:
            raise CborError("a key that is no text, or stands twice")
        items[key], at = _item(encoded, at, depth)
    return items, at


def _text(encoded: bytes) -> str:
    try:
        return encoded.decode()
    except UnicodeDecodeError:
        raise CborError("text that is not UTF-8") from None


def _read_head(encoded: bytes, at: int) -> tuple[int, int, int]:
    """(major type, number, position after) of the item at *at*."""
    if at >= len(encoded):
        raise CborError("ends too early")
    major, number = encoded[at] >> 5, encoded[at] & 31
    at += 1
    if major == _TAG or (major == _SIMPLE and number not in _CONSTANTS) or number > 27:
        raise CborError("a type that is not used here")
    if number > 23:
        size = 1 << (number - 24)
        if size > len(encoded) - at:
            raise CborError("ends too early")
        number = int.from_bytes(encoded[at : at + size], "big")
        at += size
    return major, number, at
