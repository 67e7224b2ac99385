import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import codec
from storage.errors import Corrupt
from storage.record import HEAD_BYTES, Row, decode_row, encode_head, encode_row

u32, u64 = st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1)
rows = st.builds(
    Row,
    u64,
    u32,
    u64,
    u64,
    st.binary(max_size=50),
    st.one_of(st.none(), u64),
    st.one_of(st.none(), st.tuples(u32, u64)),
    st.binary(max_size=20),
    st.booleans(),
)


@given(rows)
def test_a_row_comes_back_as_it_was(row: Row) -> None:
    assert decode_row(encode_row(row)) == row


@given(u64, u32, u64, u64, st.one_of(st.none(), u64), st.binary(max_size=20))
def test_the_head_alone_makes_the_same_bytes_as_the_row(
    ts: int, origin: int, oseq: int, lseq: int, expires_at_ms: int | None, value: bytes
) -> None:
    row = Row(ts, origin, oseq, lseq, value, expires_at_ms)
    assert encode_head(ts, origin, oseq, lseq, expires_at_ms) + value == encode_row(row)


@given(rows, st.integers(0, HEAD_BYTES - 1))
def test_a_row_that_ends_within_its_head_is_corrupt(row: Row, length: int) -> None:
    with pytest.raises(Corrupt):
        decode_row(encode_row(row)[:length])


@given(u64)
def test_a_row_expires_at_its_instant(now_ms: int) -> None:
    row = Row(1, 1, 1, 1, b"", expires_at_ms=now_ms)
    assert row.is_expired(now_ms)
    assert not row.is_expired(now_ms - 1)


def test_a_row_without_expiry_never_expires() -> None:
    assert not Row(1, 1, 1, 1, b"").is_expired(1 << 62)


def test_the_value_is_decoded_on_demand() -> None:
    assert Row(1, 1, 1, 1, codec.encode({"id": 1})).decode() == {"id": 1}
