import pytest

from ops.cors import CorsPolicy, cors_headers, preflight

PAGE = "https://page.example"
VARY = ("vary", "Origin")


def policy(*origins: str, is_on: bool = True, allows_credentials: bool = True) -> CorsPolicy:
    return CorsPolicy(
        is_on=is_on, origins=frozenset(origins), allow_headers="Accept", allows_credentials=allows_credentials
    )


@pytest.mark.parametrize("origins", [("*",), (PAGE,), ("https://other.example", PAGE)])
def test_an_allowed_page_is_named(origins: tuple[str, ...]) -> None:
    assert cors_headers(policy(*origins), PAGE) == (
        VARY,
        ("access-control-allow-origin", PAGE),
        ("access-control-allow-credentials", "true"),
    )


def test_without_sessions_no_credentials_are_allowed() -> None:
    headers = cors_headers(policy("*", allows_credentials=False), PAGE)
    assert headers == (VARY, ("access-control-allow-origin", PAGE))


@pytest.mark.parametrize(
    "origin", [None, "", "https://page.example.org", "http://page.example", "https://PAGE.example", "null"]
)
def test_another_page_is_not_allowed(origin: str | None) -> None:
    assert cors_headers(policy(PAGE), origin) == (VARY,)


def test_an_empty_list_allows_nobody() -> None:
    assert cors_headers(policy(), PAGE) == (VARY,)


def test_switched_off_there_are_no_headers() -> None:
    assert cors_headers(policy("*", is_on=False), PAGE) == ()


def test_a_preflight_names_methods_and_headers() -> None:
    answer = preflight(policy("*"), PAGE)
    assert answer is not None
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers == (
        *cors_headers(policy("*"), PAGE),
        ("access-control-allow-methods", "POST, GET, PUT, DELETE, PATCH, OPTIONS"),
        ("access-control-allow-headers", "Accept"),
    )


def test_a_preflight_without_origin_is_refused() -> None:
    answer = preflight(policy("*"), None)
    assert answer is not None
    assert (answer.status, answer.body) == (400, b"Invalid Preflight Request")


def test_a_preflight_of_another_page_is_an_ordinary_request() -> None:
    assert preflight(policy(PAGE), "https://other.example") is None


def test_switched_off_a_preflight_is_an_ordinary_request() -> None:
    assert preflight(policy("*", is_on=False), PAGE) is None
