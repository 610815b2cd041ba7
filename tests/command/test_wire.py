"""Decoders of what the other side sends: right for what is right, one kind of error for everything else, bounded."""

import contextlib
import re
import tracemalloc

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vmsilo import frames
from vsock_cmd import cbor, wire

values: st.SearchStrategy["cbor.Value"] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 64), (1 << 64) - 1)
    | st.binary(max_size=300)
    | st.text(max_size=300),
    lambda items: st.lists(items, max_size=30) | st.dictionaries(st.text(max_size=20), items, max_size=30),
    max_leaves=40,
)


def depth(value: "cbor.Value") -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@given(values)
def test_cbor_is_what_a_library_makes_of_it(value: "cbor.Value") -> None:
    encoded = cbor.encode(value)
    assert cbor2.loads(encoded) == value
    assert len(encoded) <= len(cbor2.dumps(value))
    if depth(value) <= cbor.DEPTH_MAX:
        assert cbor.decode(encoded) == value
    else:
        with pytest.raises(cbor.CborError, match="nested too deeply"):
            cbor.decode(encoded)


@given(values.filter(lambda value: depth(value) <= cbor.DEPTH_MAX))
def test_cbor_of_a_library_is_understood(value: "cbor.Value") -> None:
    assert cbor.decode(cbor2.dumps(value)) == value


@given(st.binary(max_size=200))
@example(b"\x81" * 100_000)  # deep
@example(b"\x9b" + b"\xff" * 8)  # an array of 2**64 - 1
@example(b"\x5b" + b"\xff" * 8)  # as many bytes
@example(b"\xbf\xff")  # indefinite length
@example(b"\xc2\x41\x00")  # a tag
@example(b"\xfb" + bytes(8))  # a float
@example(b"\xa2\x61a\x00\x61a\x00")  # a key twice
@example(b"\xa1\x00\x00")  # a key that is no text
@example(b"\x61\xff")  # no UTF-8
def test_cbor_of_anybody(encoded: bytes) -> None:
    try:
        value = cbor.decode(encoded)
    except cbor.CborError:
        return
    assert cbor2.loads(encoded) == value


@pytest.mark.parametrize("length", [1 << 20, 1 << 32, (1 << 64) - 1])
@pytest.mark.parametrize("major", [2, 3, 4, 5])
def test_lengths_that_lie_cost_nothing(major: int, length: int) -> None:
    encoded = bytes((major << 5 | 27,)) + length.to_bytes(8, "big") + bytes(100)
    tracemalloc.start()
    with pytest.raises(cbor.CborError):
        cbor.decode(encoded)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000


# Messages

byte_strings = st.binary(min_size=1, max_size=50).map(lambda value: value.replace(b"\0", b"x"))
requests = st.builds(
    wire.Request,
    byte_strings | st.lists(byte_strings, min_size=1, max_size=5),
    environment=st.lists(byte_strings.map(lambda value: b"N=" + value), max_size=5),
    cwd=st.none() | byte_strings,
    user=st.none() | st.text(max_size=20),
    pty=st.none(),
    detach=st.booleans(),
)


def fields(message: object) -> dict[str, object]:
    return {name: getattr(message, name) for name in type(message).__slots__}  # type: ignore[attr-defined]


@given(requests)
def test_requests_arrive_as_they_are(request: wire.Request) -> None:
    assert fields(wire.decode_request(wire.encode_request(request))) == fields(request)


def test_a_terminal_arrives_as_it_is() -> None:
    request = wire.decode_request(wire.encode_request(wire.Request(b"x", pty=wire.Pty(b"vt220", 24, 80))))
    assert request.pty
    assert fields(request.pty) == {"term": b"vt220", "rows": 24, "columns": 80}


@pytest.mark.parametrize("reply", [wire.Started(7), wire.Failed("no", 127), wire.Exited(255), wire.Killed(9)])
def test_replies_arrive_as_they_are(reply: "wire.Started | wire.Failed | wire.Exited | wire.Killed") -> None:
    decoded = wire.decode_reply(wire.encode_reply(reply))
    assert type(decoded) is type(reply)
    assert fields(decoded) == fields(reply)


@pytest.mark.parametrize("order", [wire.Signal(2), wire.Resize(0, 65535)])
def test_orders_arrive_as_they_are(order: wire.Signal | wire.Resize) -> None:
    assert fields(wire.decode_order(wire.encode_order(order))) == fields(order)


keys = st.sampled_from(
    "version command env cwd user pty detach type signal resize rows columns started pid failed text status x".split()
)
messages: st.SearchStrategy[dict[str, "cbor.Value"]] = st.dictionaries(
    keys,
    values
    | st.sampled_from(["signal", "resize", "started", "failed", "exited", "killed", 1, True, 0])
    | byte_strings,
    max_size=6,
)


@given(messages.map(cbor.encode) | st.binary(max_size=100))
def test_messages_of_anybody(payload: bytes) -> None:
    """Either right or a WireError; what passes has the types that are declared."""
    with contextlib.suppress(wire.WireError):
        request = wire.decode_request(payload)
        assert request.command
        assert all(type(item) is bytes for item in request.environment)
        assert type(request.detach) is bool
    with contextlib.suppress(wire.WireError):
        order = wire.decode_order(payload)
        assert isinstance(order, wire.Resize) or 1 <= order.number <= wire.SIGNAL_MAX
    with contextlib.suppress(wire.WireError):
        reply = wire.decode_reply(payload)
        assert not isinstance(reply, wire.Failed) or reply.text.isprintable()


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"version": 2, "command": b"x"}, "this guest speaks version 1 of vmsilo-cmd, the host asked for 2"),
        ({"command": b"x"}, "'version' is missing or no int"),
        ({"version": True, "command": b"x"}, "'version' is missing or no int"),
        ({"version": 1}, "'command' is missing or no bytes"),
        ({"version": 1, "command": "x"}, "'command' is missing or no bytes"),
        ({"version": 1, "command": []}, "'command' is empty"),
        ({"version": 1, "command": [b""]}, "'command' is empty"),
        ({"version": 1, "command": [b"x", "y"]}, "'command' holds something else than byte strings"),
        ({"version": 1, "command": [b"x"] * 8193}, "at most 8192"),
        ({"version": 1, "command": b"x\0"}, "'command' holds a zero byte"),
        ({"version": 1, "command": b"x", "env": [b"X"]}, "'env' holds an item that is not NAME=VALUE"),
        ({"version": 1, "command": b"x", "cwd": b"/\0"}, "'cwd' holds a zero byte"),
        ({"version": 1, "command": b"x", "colour": 1}, "unknown key 'colour'"),
        ({"version": 1, "command": b"x", "pty": {"term": b"x", "rows": 1}}, "'columns' is missing"),
        ({"version": 1, "command": b"x", "pty": {"term": b"x", "rows": 1, "columns": 65536}}, "'columns' is 65536"),
        ([1], "no map"),
    ],
)
def test_wrong_requests(message: "cbor.Value", text: str) -> None:
    with pytest.raises(wire.WireError, match=re.escape(text)):
        wire.decode_request(cbor.encode(message))


def test_text_of_a_guest_is_harmless() -> None:
    reply = wire.decode_reply(
        cbor.encode({"type": "failed", "version": 9, "text": "a\x1b]0;x\x07\nb\u202e" + "x" * 2000, "status": 1})
    )
    assert isinstance(reply, wire.Failed)
    assert reply.text == "a?]0;x? b?" + "x" * (wire.TEXT_MAX - 10)


# Frames

KINDS = {0: 50, 1: 1000, 2: 4}  # 1 is bulk


def reader_of(stream: bytes, sizes: list[int]) -> frames.Reader:
    """A reader of *stream*, which arrives in pieces of *sizes* and then as a whole."""
    rest = memoryview(stream)
    pieces = iter(sizes)

    def receive(view: memoryview) -> int:
        nonlocal rest
        size = min(next(pieces, len(rest)), len(view), len(rest))
        view[:size] = rest[:size]
        rest = rest[size:]
        return size

    return frames.Reader(receive, KINDS, bulk=1, size=64)


def collect(reader: frames.Reader) -> list[tuple[int, int, bytes]]:
    """All frames to the end; the pieces of one bulk frame are one entry only if they came as one."""
    found = []
    while reader.fill():
        found += [(kind, channel, bytes(payload)) for kind, channel, payload in reader.frames()]
    return found


@given(
    st.lists(
        st.tuples(st.just(0), st.integers(0, 255), st.binary(max_size=50))
        | st.tuples(st.just(1), st.integers(0, 255), st.binary(max_size=1000))
        | st.tuples(st.just(2), st.integers(0, 255), st.binary(max_size=4)),
        max_size=20,
    ),
    st.lists(st.integers(1, 100), max_size=50),
)
def test_frames_arrive_however_they_are_cut(sent: list[tuple[int, int, bytes]], sizes: list[int]) -> None:
    found = collect(reader_of(b"".join(frames.pack(*frame) for frame in sent), sizes))
    assert [frame for frame in found if frame[0] != 1] == [frame for frame in sent if frame[0] != 1]
    for channel in range(256):
        expected = b"".join(payload for kind, number, payload in sent if (kind, number) == (1, channel))
        assert b"".join(payload for kind, number, payload in found if (kind, number) == (1, channel)) == expected
    assert len([1 for frame in found if frame[0] == 1 and not frame[2]]) == len(
        [1 for frame in sent if frame[0] == 1 and not frame[2]]
    )


@given(st.binary(max_size=500), st.lists(st.integers(1, 100), max_size=50))
def test_frames_of_anybody(stream: bytes, sizes: list[int]) -> None:
    with contextlib.suppress(frames.FrameError):
        for kind, _, payload in collect(reader_of(stream, sizes)):
            assert len(payload) <= KINDS[kind]


@pytest.mark.parametrize(
    "header",
    [
        frames.HEADER.pack(3, 0, 0, 0),  # unknown kind
        frames.HEADER.pack(0, 0, 1, 0),  # not zero
        frames.HEADER.pack(0, 0, 0, 51),
        frames.HEADER.pack(1, 0, 0, 1001),
        frames.HEADER.pack(2, 0, 0, 0xFFFFFFFF),
    ],
)
def test_wrong_headers(header: bytes) -> None:
    with pytest.raises(frames.FrameError):
        collect(reader_of(header, []))
