"""Building the layers of one node: the only place that knows all four.

Constructs, starts nothing: ``lifetime`` decides what runs when, and in which order it ends.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version as version_of
from typing import cast
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from node.certificate_rows import ConfiguredFiles
from node.certificate_source import CertificateSource
from node.certificate_store import CertificateStore
from node.certificates import ensure_certificates
from node.cluster_assembly import assemble_cluster
from node.configuration import Configuration
from node.errors import StartError
from node.joining import JoinService
from node.replication_tls import ReplicationTls
from node.server_tls import HTTP1_ALPN, HTTP2_ALPN, ServerTls
from node.settings import Settings
from node.token_keys import TokenKeyPair, TokenKeys, TokenKeysUnusable
from ops.authentication import Authenticator
from ops.context import Certificates, Jobs, NodeControl, Services
from ops.dispatch import OperationsDispatcher
from ops.http_server import HttpServer
from ops.jobs import JobRunner
from ops.joining import Joining
from ops.node_calls import NodeCalls
from ops.passwords import Passwords
from ops.reference import OPERATIONS
from ops.serving_settings import ServingSettings
from ops.settings import HashFunction, OpsSettings
from ops.system_tables import SYSTEM
from ops.tokens import KeysUnreadable, Tokens
from replication.cluster import Cluster
from storage.catalog import Catalog
from storage.clock import wall_clock


class LazyTokenKeys:
    """The node's keys for tokens, as the operations ask for them."""

    def __init__(self, keys: TokenKeys) -> None:
        self._keys = keys

    async def signing_key(self) -> RSAPrivateKey:
        return (await self._pair()).private

    async def verification_key(self) -> RSAPublicKey:
        return (await self._pair()).public

    async def _pair(self) -> TokenKeyPair:
        try:
            return await self._keys.get()
        except (TokenKeysUnusable, OSError) as error:
            raise KeysUnreadable from error


def ops_settings(settings: Settings) -> OpsSettings:
    """What the operations read, out of the node's settings."""
    authentication = settings.authentication
    return OpsSettings(
        node=settings.replication.node_name,
        version=version_of("logmesh"),
        root_path=settings.root_path,
        keys_path=settings.keys_path,
        log_path=settings.logging.root,
        authorize_local=authentication.authorize_local,
        credential_cache_s=authentication.cache_ttl_s,
        enable_sessions=authentication.enable_sessions,
        cookie_domains=authentication.cookie_domains,
        cookie_expires=_whole(authentication.cookie_expires_s),
        operation_token_timeout=int(authentication.operation_token_timeout_s),
        refresh_token_timeout=int(authentication.refresh_token_timeout_s),
        hash_function=cast(HashFunction, authentication.hash_function),
        audit_log=settings.logging.audit_log,
        log_failed_logins=settings.logging.log_failed_authentications,
        log_successful_logins=settings.logging.log_successful_authentications,
        exact_integers=settings.exact_big_integers,
        collect_disk=settings.operations_api.sys_info_disk,
        collect_network=settings.operations_api.sys_info_network,
        queue_wait_s_max=settings.http.request_queue_limit_s,
    )


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """One node's parts that have a life of their own."""

    services: Services
    server: HttpServer
    certificate_source: CertificateSource
    tls: ServerTls
    replication_tls: ReplicationTls | None
    """None: this node takes no part in replication."""
    cluster: Cluster | None
    """None: as above."""
    join: JoinService | None
    """None: as above, or no members to ask are configured."""
    jobs: JobRunner
    token_keys: TokenKeys


def assemble(settings: Settings, catalog: Catalog, control: NodeControl) -> Assembled:
    """Build everything above storage. Blocks: keys and certificates are read, or made at the first start."""
    node = settings.replication.node_name
    ensure_certificates(settings.keys_path, node=node, hosts=_host_of(settings.url))
    source = CertificateSource(
        catalog, keys=settings.keys_path, node=node, configured=tuple(_configured_files(settings))
    )
    store = CertificateStore(catalog, source, hosts=_host_of(settings.replication.url or settings.url))
    tls = _operations_tls(settings, source)
    token_keys = TokenKeys(settings.keys_path)
    jobs = JobRunner(catalog)
    services = _services(settings, catalog, certificates=store, control=control, jobs=jobs, token_keys=token_keys)
    authenticator = Authenticator(
        catalog=catalog, settings=services.settings, passwords=services.passwords, tokens=services.tokens
    )
    replication_tls = _replication_tls(settings, source) if settings.replication.takes_part else None
    cluster = None
    if replication_tls is not None:
        cluster = assemble_cluster(
            settings.replication,
            catalog,
            replication_tls,
            authenticator=authenticator,
            handler=NodeCalls(lambda: services, OPERATIONS),
            authority_pem=store.authority_pem_now(),
        )
        services = replace(services, cluster=cluster)
    dispatcher = OperationsDispatcher(services, OPERATIONS, authenticator)
    return Assembled(
        services=services,
        server=HttpServer(dispatcher, serving_settings(settings), tls.context),
        certificate_source=source,
        tls=tls,
        replication_tls=replication_tls,
        cluster=cluster,
        join=None if cluster is None else _join_service(settings, catalog, cluster, store),
        jobs=jobs,
        token_keys=token_keys,
    )


def serving_settings(settings: Settings) -> ServingSettings:
    """What the operations API's servers read, out of the node's settings."""
    api = settings.operations_api
    if api.client_certificates is not None:
        raise StartError(
            "operationsApi.network.mtls is not supported yet: a listener that checks nothing is not opened"
        )
    return ServingSettings(
        plain=api.port,
        secure=api.secure_port,
        domain_socket=api.domain_socket,
        fast_lane=api.fast_lane,
        cors=api.cors,
        cors_access_list=api.cors_access_list,
        cors_allow_headers=settings.http.cors_allow_headers,
        allows_credentials=settings.authentication.enable_sessions,
        header_bytes_max=settings.http.max_header_size_bytes,
        header_timeout_s=api.headers_timeout_s,
        keep_alive_timeout_s=api.keep_alive_timeout_s,
        timeout_s=api.timeout_s,
    )


def _services(
    settings: Settings,
    catalog: Catalog,
    *,
    certificates: Certificates,
    control: NodeControl,
    jobs: Jobs,
    token_keys: TokenKeys,
) -> Services:
    of_ops = ops_settings(settings)
    return Services(
        catalog=catalog,
        certificates=certificates,
        configuration=Configuration(settings.root_path, settings.document),
        control=control,
        jobs=jobs,
        passwords=Passwords(function=of_ops.hash_function, wait_s_max=of_ops.queue_wait_s_max),
        tokens=Tokens(
            LazyTokenKeys(token_keys),
            operation_lifetime=of_ops.operation_token_timeout,
            refresh_lifetime=of_ops.refresh_token_timeout,
            wait_s_max=of_ops.queue_wait_s_max,
        ),
        settings=of_ops,
        clock=wall_clock,
    )


def _operations_tls(settings: Settings, source: CertificateSource) -> ServerTls:
    return ServerTls(
        source.pairs,
        purpose="operations-api",
        node=source.node,
        look=source.look,
        alpn=HTTP2_ALPN if settings.operations_api.http2 or settings.http.http2 else HTTP1_ALPN,
    )


def _replication_tls(settings: Settings, source: CertificateSource) -> ReplicationTls:
    return ReplicationTls(
        source.pairs,
        source.authorities_for_peers,
        node=source.node,
        look=source.look_for_peers,
        trusts_public_roots=settings.replication.enable_root_cas,
    )


def _join_service(
    settings: Settings, catalog: Catalog, cluster: Cluster, certificates: Certificates
) -> JoinService | None:
    if not settings.replication.join:
        return None
    return JoinService(
        cluster,
        Joining(cluster, certificates, partial(catalog.write, SYSTEM, operation="add_node")),
        settings.replication.join,
        credentials=settings.first_administrator,
        authorities=settings.replication.join_ca,
        root=settings.root_path,
        rng=random.Random(),
    )


def _configured_files(settings: Settings) -> Iterator[ConfiguredFiles]:
    """Certificates that configuration names. The top-level ones serve the operations API where it has none itself."""
    of_operations = settings.operations_api.tls
    for files in settings.tls:
        yield ConfiguredFiles(files=files, uses=("https",) if of_operations else ("https", "operations"))
    for files in of_operations:
        yield ConfiguredFiles(files=files, uses=("operations",))


def _host_of(url: str | None) -> tuple[str, ...]:
    host = urlsplit(url or "").hostname
    return () if host is None else (host,)
