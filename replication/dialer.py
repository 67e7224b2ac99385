"""Dials a peer: TCP, TLS, who is there, and only then the first byte of HTTP."""

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

import trio
from cryptography import x509

from replication.connection import Connection, PeerIdentity, Target
from replication.errors import LinkLost, RemoteProtocolError
from replication.identity import identify, names_of
from replication.transport import (
    Stream,
    TransportSettings,
    WatchedStream,
    certificate_of,
    clean_reason,
    reason_of,
    shake_hands,
    tls_stream,
    within,
)
from replication.upgrade import request_upgrade
from replication.websocket import WebSocketConnection

_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}")


class Dialer:
    """``connection = await dialer(target)``; a ``Dial``. Raises ``LinkLost`` and ``PeerRefused``."""

    def __init__(
        self,
        tls_client_context: Callable[..., ssl.SSLContext],
        settings: TransportSettings,
        *,
        local_address: str | None = None,
    ) -> None:
        """``tls_client_context(verify=…, shows_certificate=…, authorities_pem=…)`` is asked for each connection anew, so
        that changed certificates count for the next one. Its contexts do not check host names: a peer is known by its
        node name.

        ``local_address`` is where ``ws://`` connections to loopback addresses come from: nodes of one machine that
        know each other by address only.
        """
        self._tls_client_context = tls_client_context
        self._settings = settings
        self._local_address = None if local_address is None else ip_address(local_address)

    async def __call__(self, target: Target) -> Connection:
        place = _place_of(target.url)
        try:
            with within(self._settings.connect_s, "connecting"):
                transport = await trio.open_tcp_stream(
                    place.host, place.port, local_address=self._local_address_for(place)
                )
            try:
                return await self._open(WatchedStream(transport), place, target)
            except BaseException:
                await trio.aclose_forcefully(transport)
                raise
        except (
            OSError,
            UnicodeError,
            trio.TooSlowError,
            trio.BrokenResourceError,
            LinkLost,
            RemoteProtocolError,
        ) as error:
            raise LinkLost(f"{target.url}: {reason_of(error)}") from error

    async def _open(self, transport: WatchedStream, place: "_Place", target: Target) -> Connection:
        stream: Stream = transport
        certificate = None
        if place.is_secure:
            context = self._tls_client_context(
                verify=target.verifies,
                shows_certificate=target.shows_certificate,
                authorities_pem=target.authorities_pem,
            )
            assert not context.check_hostname
            assert context.verify_mode is ssl.CERT_REQUIRED or not target.verifies
            stream = tls_stream(transport, context, server_name=place.host if place.address is None else None)
            with within(self._settings.handshake_s, "the TLS handshake"):
                await shake_hands(stream)
            certificate = certificate_of(stream)
            if target.verifies:
                _check_identity(certificate, target.name)
        with within(self._settings.upgrade_s, "the answer to the upgrade"):
            websocket = await request_upgrade(
                stream,
                host=place.netloc,
                authorization=target.authorization,
                answer_bytes_max=self._settings.head_bytes_max,
            )
        return WebSocketConnection(stream, websocket, _identity(transport, certificate, target))

    def _local_address_for(self, place: "_Place") -> str | None:
        ours, theirs = self._local_address, place.address
        if ours is None or theirs is None or place.is_secure:
            return None
        return str(ours) if theirs.is_loopback and theirs.version == ours.version else None


def _check_identity(certificate: x509.Certificate | None, expected: str | None) -> None:
    if expected is None:
        return
    if certificate is None or identify(certificate, (expected,)) is None:
        names = ", ".join(names_of(certificate)) if certificate is not None else ""
        raise LinkLost(f"its certificate is for {clean_reason(names) or 'nobody'}, not for {expected}")


def _identity(transport: WatchedStream, certificate: x509.Certificate | None, target: Target) -> PeerIdentity:
    """A name is only given where it was proven: by the certificate, or by the address where addresses are trusted."""
    return PeerIdentity(
        name=target.name if target.verifies else None,
        address=transport.peer_address,
        serial=None if certificate is None else certificate.serial_number,
        not_after_s=None if certificate is None else certificate.not_valid_after_utc.timestamp(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    is_secure: bool
    host: str
    port: int
    netloc: str

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        """The host where it is not a name."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None


def _place_of(url: str) -> _Place:
    """Raises ``LinkLost``: URLs come from other nodes too, and a bad one is like a peer that is not there."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise LinkLost(f"{clean_reason(url)}: not the URL of a peer") from error
    if parts.username is not None or parts.password is not None:
        raise LinkLost("the URL of a peer carries no credentials")
    has_more = parts.path not in ("", "/") or parts.query or parts.fragment
    place = _Place(is_secure=parts.scheme == "wss", host=host or "", port=port or 0, netloc=parts.netloc)
    is_host = place.address is not None or _HOST_NAME.fullmatch(place.host)
    if parts.scheme not in ("ws", "wss") or not is_host or not place.port or has_more:
        raise LinkLost(f"{clean_reason(url)}: not the URL of a peer, wss://host:port or ws://host:port")
    return place
