"""Making and reading tokens."""

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from ops.errors import AuthenticationFailed, OperationError
from ops.tokens import Grant, KeysUnreadable, Tokens, lifetime_s
from tests.ops.user_node import HeldKeys, TimeOfDay, key_pair

TARKA = Grant(user="tarka", is_super_user=False)


def tokens_at(clock: TimeOfDay) -> Tokens:
    return Tokens(HeldKeys(), now_s=clock)


def parts_of(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, unchecked."""
    header, claims, _ = token.split(".")
    decoded = [json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in (header, claims)]
    return decoded[0], decoded[1]


def signed(claims: dict[str, Any], **kwargs: Any) -> str:
    return jwt.encode(claims, kwargs.pop("key", key_pair()), algorithm=kwargs.pop("algorithm", "RS256"), **kwargs)


def sound_claims(clock: TimeOfDay, **changes: Any) -> dict[str, Any]:
    now = int(clock())
    return {"username": "tarka", "super_user": False, "iat": now, "exp": now + 60, "sub": "operation", **changes}


async def refused(token: str, clock: TimeOfDay, kind: Any = "operation") -> str:
    with pytest.raises(AuthenticationFailed) as error:
        await tokens_at(clock).read(kind, token)
    assert error.value.status == 401
    return str(error.value)


async def test_a_token_has_the_documented_header_and_claims() -> None:
    clock = TimeOfDay(1_800_000_000.9)
    header, claims = parts_of(await tokens_at(clock).make("operation", TARKA, client="a"))
    assert header == {"alg": "RS256", "typ": "JWT"}
    assert claims == {
        "username": "tarka",
        "super_user": False,
        "iat": 1_800_000_000,
        "exp": 1_800_086_400,
        "sub": "operation",
    }


async def test_a_refresh_token_lives_thirty_days() -> None:
    _, claims = parts_of(await tokens_at(TimeOfDay()).make("refresh", TARKA, client="a"))
    assert (claims["sub"], claims["exp"] - claims["iat"]) == ("refresh", 30 * 86400)


async def test_a_role_is_copied_into_the_token() -> None:
    grant = Grant(user="tarka", is_super_user=True, role="viewer")
    _, claims = parts_of(await tokens_at(TimeOfDay()).make("operation", grant, client="a"))
    assert (claims["role"], claims["super_user"]) == ("viewer", True)


async def test_tokens_of_the_same_second_are_equal() -> None:
    clock = TimeOfDay(1_800_000_000.1)
    first = await tokens_at(clock).make("refresh", TARKA, client="a")
    clock.now_s += 0.8
    assert await tokens_at(clock).make("refresh", TARKA, client="a") == first
    clock.now_s += 0.2
    assert await tokens_at(clock).make("refresh", TARKA, client="a") != first


async def test_a_token_is_read_as_it_was_made() -> None:
    clock = TimeOfDay()
    claims = await tokens_at(clock).read("operation", await tokens_at(clock).make("operation", TARKA, client="a"))
    assert (claims.user, claims.role, claims.issued_at_s) == ("tarka", None, clock.now_s)


@pytest.mark.parametrize(("expires_in", "lived_s"), [(60, 60), ("20h", 72000), ("90000", 90), ("1.5m", 90), (-5, -5)])
async def test_a_lifetime_is_counted_from_the_time_of_issue(expires_in: Any, lived_s: int) -> None:
    _, claims = parts_of(await tokens_at(TimeOfDay()).make("operation", TARKA, client="a", expires_in=expires_in))
    assert claims["exp"] - claims["iat"] == lived_s


@pytest.mark.parametrize("expires_in", ["soon", "", "1 day", [], True, "9" * 15 + "y"])
def test_a_lifetime_that_is_none_is_refused_with_the_known_text(expires_in: Any) -> None:
    with pytest.raises(OperationError) as error:
        lifetime_s(expires_in)
    assert (error.value.status, str(error.value)) == (
        500,
        '"expiresIn" should be a number of seconds or string representing a timespan eg: "1d", "20h", 60',
    )


def test_a_setting_that_is_no_lifetime_is_refused_at_the_start() -> None:
    with pytest.raises(OperationError):
        Tokens(HeldKeys(), operation_lifetime="soon")


async def test_a_token_ends_at_its_expiry() -> None:
    clock = TimeOfDay()
    token = await tokens_at(clock).make("operation", TARKA, client="a", expires_in=60)
    clock.now_s += 59.9
    await tokens_at(clock).read("operation", token)
    clock.now_s += 0.1
    assert await refused(token, clock) == "token expired"


async def test_a_token_of_the_other_kind_is_invalid() -> None:
    clock = TimeOfDay()
    refresh = await tokens_at(clock).make("refresh", TARKA, client="a")
    assert await refused(refresh, clock, "operation") == "invalid token"
    assert await refused(signed(sound_claims(clock)), clock, "refresh") == "invalid token"


@pytest.mark.parametrize(
    "changes",
    [
        {"username": None},
        {"username": 5},
        {"exp": None},
        {"exp": "2099"},
        {"exp": True},
        {"iat": None},
        {"iat": 1.5},
        {"sub": None},
        {"sub": 5},
        {"sub": ["operation"]},
    ],
)
async def test_a_signed_token_with_odd_claims_is_invalid(changes: dict[str, Any]) -> None:
    clock = TimeOfDay()
    assert await refused(signed(sound_claims(clock, **changes)), clock) == "invalid token"


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "....", "ä.ö.ü", "x" * 20_000])
async def test_what_is_no_token_is_invalid(token: str) -> None:
    assert await refused(token, TimeOfDay()) == "invalid token"


@pytest.mark.parametrize(
    "header",
    [
        "[" * 10_000,
        "[]",
        "5",
        '"RS256"',
        "{}",
        '{"alg":["RS256"]}',
        '{"alg":{"a":1}}',
        '{"alg":5}',
        '{"alg":null}',
        '{"alg":"RS256","kid":5}',
        '{"alg":"RS256","b64":false}',
        '{"alg":"RS256","crit":["b64"],"b64":false}',
        '{"alg":"RS256","crit":5}',
        '{"alg":"ES256"}',
        "\\ud800",
    ],
)
async def test_a_token_with_an_odd_header_is_invalid(header: str) -> None:
    encoded = base64.urlsafe_b64encode(header.encode()).rstrip(b"=").decode()
    _, claims, signature = signed(sound_claims(TimeOfDay())).split(".")
    assert await refused(f"{encoded}.{claims}.{signature}", TimeOfDay()) == "invalid token"


async def test_a_token_signed_by_another_key_is_invalid() -> None:
    clock = TimeOfDay()
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert await refused(signed(sound_claims(clock), key=other), clock) == "invalid token"


async def test_an_expired_token_signed_by_another_key_is_invalid_rather_than_expired() -> None:
    clock = TimeOfDay()
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert await refused(signed(sound_claims(clock, exp=1), key=other), clock) == "invalid token"


async def test_a_token_that_claims_to_need_no_signature_is_invalid() -> None:
    clock = TimeOfDay()
    assert await refused(signed(sound_claims(clock), key=None, algorithm="none"), clock) == "invalid token"


async def test_a_token_signed_with_the_public_key_as_a_shared_secret_is_invalid() -> None:
    clock = TimeOfDay()
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=").decode()
    claims = base64.urlsafe_b64encode(json.dumps(sound_claims(clock)).encode()).rstrip(b"=").decode()
    assert await refused(f"{header}.{claims}.AAAA", clock) == "invalid token"


async def test_a_changed_claim_makes_a_token_invalid() -> None:
    clock = TimeOfDay()
    header, _, signature = signed(sound_claims(clock)).split(".")
    forged = base64.urlsafe_b64encode(json.dumps(sound_claims(clock, username="admin")).encode()).rstrip(b"=").decode()
    assert await refused(f"{header}.{forged}.{signature}", clock) == "invalid token"


async def test_a_token_of_a_clock_that_runs_ahead_is_valid() -> None:
    clock = TimeOfDay()
    token = signed(sound_claims(clock, iat=int(clock()) + 30))
    assert (await tokens_at(clock).read("operation", token)).user == "tarka"


class NoKeys:
    """Key files that cannot be read."""

    async def signing_key(self) -> rsa.RSAPrivateKey:
        raise KeysUnreadable

    async def verification_key(self) -> rsa.RSAPublicKey:
        raise KeysUnreadable


async def test_keys_that_cannot_be_read_are_told_with_the_known_text() -> None:
    with pytest.raises(KeysUnreadable) as error:
        await Tokens(NoKeys()).make("operation", TARKA, client="a")
    assert (error.value.status, error.value.body) == (
        500,
        {"error": "unable to generate JWT as there are no encryption keys.  please contact your administrator"},
    )
