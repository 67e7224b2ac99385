"""The ``Authorization`` header."""

import base64

import pytest

from ops.credentials import Basic, Bearer, bearer_token, read_authorization
from ops.errors import AuthenticationFailed
from tests.ops.user_node import basic


def test_a_basic_header_gives_name_and_password() -> None:
    assert read_authorization(basic("tarka", "secret")) == Basic(username="tarka", password="secret")


def test_name_and_password_are_split_at_the_first_colon() -> None:
    assert read_authorization(basic("tarka", "a:b:c")) == Basic(username="tarka", password="a:b:c")


def test_a_value_without_colon_is_a_name_with_an_empty_password() -> None:
    value = base64.b64encode(b"tarka").decode()
    assert read_authorization(f"Basic {value}") == Basic(username="tarka", password="")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_names_and_passwords_may_have_any_letters(encoding: str) -> None:
    value = base64.b64encode("jürgen:größe".encode(encoding)).decode()
    assert read_authorization(f"Basic {value}") == Basic(username="jürgen", password="größe")


def test_padding_may_be_missing() -> None:
    assert read_authorization(basic("tarka", "x").rstrip("=")) == Basic(username="tarka", password="x")


@pytest.mark.parametrize("scheme", ["basic", "BASIC", " Basic"])
def test_a_scheme_may_be_written_in_any_case(scheme: str) -> None:
    value = basic("tarka", "x").removeprefix("Basic")
    assert read_authorization(scheme + value) == Basic(username="tarka", password="x")


@pytest.mark.parametrize("header", ["Basic", "Basic ", "Bearer", "Bearer ", "", "  ", basic("", "")])
def test_a_header_without_value_or_with_neither_name_nor_password_brings_no_credentials(header: str) -> None:
    assert read_authorization(header) is None


@pytest.mark.parametrize("header", ["Digest username=tarka", "Token abc", "Basicx dGFya2E6eA=="])
def test_an_unknown_scheme_is_refused(header: str) -> None:
    with pytest.raises(AuthenticationFailed, match=r"^Must login$"):
        read_authorization(header)


@pytest.mark.parametrize("value", ["???", "dGFya2E6eA==x", "a", "dGFy-2E6", "tarka:x"])
def test_a_value_that_is_not_base64_is_refused(value: str) -> None:
    with pytest.raises(AuthenticationFailed, match=r"^Invalid character$"):
        read_authorization(f"Basic {value}")


def test_a_bearer_header_gives_its_token() -> None:
    assert read_authorization("Bearer a.b.c") == Bearer(token="a.b.c")


@pytest.mark.parametrize(("header", "token"), [("Bearer a", "a"), ("bearer  a ", "a"), ("Bearer", None), (None, None)])
def test_only_a_bearer_header_has_a_token(header: str | None, token: str | None) -> None:
    assert bearer_token(header) == token
    assert bearer_token(basic("tarka", "x")) is None


def test_credentials_do_not_show_what_is_secret() -> None:
    shown = repr((Basic(username="tarka", password="secret"), Bearer(token="secret")))
    assert "secret" not in shown
