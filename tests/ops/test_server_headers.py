from email.utils import parsedate_to_datetime
from http import HTTPStatus

import h11
import pytest

from ops.http import Response
from ops.server_headers import check_headers, http_date, joined_headers, refusal_head, status_line


def test_names_are_in_small_letters_and_values_without_space_around() -> None:
    assert joined_headers([(b"Content-TYPE", b" a b \t")]) == {"content-type": "a b"}


def test_values_of_a_repeated_header_are_joined_in_order() -> None:
    assert joined_headers([(b"accept", b"a"), (b"host", b"x"), (b"Accept", b"b")]) == {"accept": "a, b", "host": "x"}


def test_cookies_are_joined_as_one_header_of_cookies() -> None:
    assert joined_headers([(b"cookie", b"a=1"), (b"cookie", b"b=2")]) == {"cookie": "a=1; b=2"}


def test_bytes_beyond_ascii_stay_apart() -> None:
    assert joined_headers([(b"a", b"\xc3\xa9")]) == {"a": "\xc3\xa9"}


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Connection", "Server", "date"])
def test_an_answer_may_not_bring_what_the_server_says(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        check_headers(Response(headers=((name, "1"),)))


@pytest.mark.parametrize("header", [("a", "b\r\nc: d"), ("a", "b\nc"), ("a\r\nb", "c"), ("a", "\0"), ("a", "€")])
def test_an_answer_may_not_bring_what_cannot_be_sent(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="cannot be sent"):
        check_headers(Response(headers=(header,)))


def test_an_answer_may_bring_anything_else() -> None:
    check_headers(Response(headers=(("content-disposition", 'attachment; filename="é"'), ("a", "b\tc"))))


def test_the_date_is_one_of_http() -> None:
    assert http_date().endswith(" GMT")
    assert parsedate_to_datetime(http_date()).tzinfo is not None


def test_a_status_without_a_name_has_a_status_line_too() -> None:
    assert status_line(299) == "HTTP/1.1 299 \r\n"


def test_a_refusal_is_a_whole_answer_that_ends_the_connection() -> None:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(refusal_head(HTTPStatus.REQUEST_TIMEOUT))
    head = client.next_event()
    assert isinstance(head, h11.Response)
    assert head.status_code == 408
    assert isinstance(client.next_event(), h11.EndOfMessage)
    assert client.their_state is h11.MUST_CLOSE
