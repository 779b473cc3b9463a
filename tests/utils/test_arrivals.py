"""Find where a request ends, however its bytes are cut up on the way."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from utils.arrivals import BYTES_A_SECOND, FRAMING_SPARE, GRACE_S, HEAD_MOST, HEAD_S, SILENCE_S, Arrival, Malformed

HEAD = b"POST /tasks HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /healthz HTTP/1.1\r\n"

WHOLE = [
    HEAD + b"\r\n",
    HEAD + b"Content-Length: 0\r\n\r\n",
    HEAD + b"Content-Length: 11\r\n\r\nhello\r\nyou\r",
    CHUNKED + b"0\r\n\r\n",
    CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b"A;name=value\r\n0\r\n\r\n67890\r\n1\r\n\r\r\n0\r\nX-Trailer: 1\r\n\r\n",
]


made: list[Arrival] = []


@pytest.fixture(autouse=True)
def put_files_away():
    yield
    while made:
        made.pop().stored.close()


def begin(body_most: int = 1000, now: float = 0.0) -> Arrival:
    made.append(Arrival(body_most, now))
    return made[-1]


def gather(*pieces: bytes, most: int = 1000) -> Arrival:
    arrival = begin(most)
    for piece in pieces:
        arrival.feed(piece, 0.0)
    return arrival


@given(st.sampled_from(WHOLE), st.lists(st.integers(0, 120)), st.booleans())
def test_a_request_is_whole_at_its_last_byte_and_not_before(request_bytes, cuts, followed):
    ends = sorted({cut for cut in cuts if cut < len(request_bytes)})
    pieces = [request_bytes[begin:end] for begin, end in zip([0, *ends], [*ends, len(request_bytes)], strict=True)]
    arrival = gather(*pieces[:-1])
    assert not arrival.complete
    arrival.feed(pieces[-1] + NEXT * followed, 0.0)
    assert (arrival.complete, arrival.whole) == (True, True)
    assert arrival.stored.read() == request_bytes
    assert arrival.rest == NEXT * followed


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\nhello\r\n",
        b"-1\r\nhello\r\n",
        b"\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"1" * 5000,
    ],
)
def test_chunks_that_are_none_are_refused(body, cut):
    pieces = [bytes([byte]) for byte in body] if cut else [body]
    with pytest.raises(Malformed) as refused:
        gather(CHUNKED, *pieces)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("head", "status"), [(b"GET /" + b"x" * HEAD_MOST, 414), (HEAD + b"X: " + b"x" * HEAD_MOST, 431)]
)
def test_a_head_without_end_is_refused(head, status):
    with pytest.raises(Malformed) as refused:
        gather(head)
    assert refused.value.status == status


@pytest.mark.parametrize(
    "given_bytes",
    [
        HEAD + b"Content-Length: 1001\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        HEAD + b"Content-Length: -5\r\n\r\nhello",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\nhello",
        CHUNKED + b"3E9\r\nhello",
        CHUNKED + b"1\r\na\r\n" * 1001,
        b"GET / HTTP/1.1\nHost: localhost\n\n",
    ],
)
def test_what_is_too_long_or_odd_goes_to_the_parser_and_ends_the_connection(given_bytes):
    arrival = gather(given_bytes)
    assert arrival.complete
    assert not arrival.whole or given_bytes.count(b"\r\n") == 0


STEPS = [1, 17, 1448, 10_000_000]


def in_steps(body: bytes, step: int) -> list[bytes]:
    return [body[start : start + step] for start in range(0, len(body), step)]


@pytest.mark.parametrize("step", STEPS)
def test_a_long_body_in_chunks_of_a_byte_is_refused_however_it_is_cut(step):
    body = b"1\r\na\r\n" * (FRAMING_SPARE // 4 + 1) + b"0\r\n\r\n"
    with pytest.raises(Malformed, match="too small"):
        gather(CHUNKED, *in_steps(body, step), most=FRAMING_SPARE)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("size", "number"), [(1, FRAMING_SPARE // 5), (5, 30_000), (11, 30_000)])
def test_small_chunks_may_make_a_body(size, number, step):
    body = (b"%x\r\n" % size + b"a" * size + b"\r\n") * number + b"0\r\n\r\n"
    arrival = gather(CHUNKED, *in_steps(body, step), most=size * number)
    assert (arrival.complete, arrival.whole) == (True, True)


def test_a_client_that_has_sent_much_has_no_more_than_a_while_in_hand():
    arrival = begin(20_000_000, now=100.0)
    arrival.feed(CHUNKED + b"FFFFFF\r\n" + b"a" * 1_000_000, 100.0)
    assert not arrival.is_late(100.0 + SILENCE_S)
    assert arrival.is_late(100.1 + SILENCE_S)
    arrival.feed(b"a", 99.0 + SILENCE_S)
    assert arrival.is_late(100.1 + SILENCE_S), "one byte bought as long again"


def test_a_head_may_take_a_while_and_no_longer_however_much_comes():
    arrival = begin(now=100.0)
    assert not arrival.is_late(100.0 + GRACE_S)
    assert arrival.is_late(100.1 + GRACE_S)
    arrival.feed(HEAD + b"X: " + b"x" * 30 * BYTES_A_SECOND, 100.0)
    assert not arrival.is_late(100.0 + HEAD_S)
    assert arrival.is_late(100.1 + HEAD_S)


def test_a_body_has_time_of_its_own_and_more_with_every_byte():
    arrival = begin(10 * BYTES_A_SECOND, 100.0)
    arrival.feed(HEAD + b"Content-Length: 9000\r\n\r\n", 109.0)
    assert not arrival.is_late(109.0 + GRACE_S)
    assert arrival.is_late(109.1 + GRACE_S)
    arrival.feed(b"x" * BYTES_A_SECOND * 2, 110.0)
    assert not arrival.is_late(111.0 + GRACE_S)
    assert arrival.is_late(111.1 + GRACE_S)
