import pytest

from node.ports import parse_port, with_address_of
from ops.serving_settings import Address


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (9925, Address(port=9925)),
        (9925.0, Address(port=9925)),
        ("9925", Address(port=9925)),
        ("127.0.0.2:9925", Address(host="127.0.0.2", port=9925)),
        ("[::1]:9925", Address(host="::1", port=9925)),
        ("localhost:0", Address(host="localhost", port=0)),
    ],
)
def test_what_a_port_setting_may_be(value: object, expected: Address | None) -> None:
    assert parse_port(value) == expected


@pytest.mark.parametrize(
    "value", ["abc", "", 65536, -1, 1.5, True, float("nan"), "::1:9925", "127.0.0.1:", ":9925", [1]]
)
def test_what_is_no_port_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        parse_port(value)


@pytest.mark.parametrize("text", ["9925", "127.0.0.2:9925", "[::1]:9925"])
def test_a_listen_address_prints_as_it_is_configured(text: str) -> None:
    assert str(parse_port(text)) == text


def test_an_address_of_its_own_is_kept() -> None:
    own, other = parse_port("127.0.0.2:1"), parse_port("127.0.0.3:2")
    assert with_address_of(own, other) == own
    assert with_address_of(parse_port(1), other) == parse_port("127.0.0.3:1")
