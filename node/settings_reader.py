"""From the effective configuration (checked, defaults filled in, paths resolved) to ``Settings``.

A key is read here and nowhere else. Values were checked before, so a wrong type here is our own mistake.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from node.configuration_sources import StartedConfiguration
from node.durations import duration_s
from node.parameter import Json
from node.parameters import SECTIONS, SECTIONS_WITH_LOGGING
from node.ports import parse_port
from node.settings import (
    AnalyticsSettings,
    AuthenticationSettings,
    ClientCertificates,
    ComponentSettings,
    DiskSettings,
    FirstAdministrator,
    HttpSettings,
    LicenseSettings,
    LoggingSettings,
    MqttSettings,
    OperationsApiSettings,
    ReplicationSettings,
    RotationSettings,
    SectionLog,
    Settings,
    TlsFiles,
)
from node.tree import get_value
from ops.serving_settings import Address
from replication.agreements import ReplicatedDatabase
from storage.settings import StorageSettings

Value = TypeVar("Value")
DOMAIN_SOCKET_BYTES_MAX = 107
"""``sun_path`` of a socket address holds 108 bytes, a closing zero included."""
_WITHOUT_EFFECT = (("storage", "compactOnStart"),)
"""Settings that somebody relies on where he makes them, and that nothing reads yet: said aloud at each start."""
_MS_S = 0.001
_ROTATION_INTERVAL_UNIT_S = {"D": 86400.0, "H": 3600.0, "M": 60.0}
_ROTATION_SIZE_UNIT_BYTES = {"G": 10**9, "M": 10**6, "K": 10**3}


class _Reader:
    """Typed access to one section of a document."""

    def __init__(self, document: Mapping[str, Json], section: str = "") -> None:
        self._document = document
        self._prefix = tuple(section.split(".")) if section else ()

    def value(self, dotted: str) -> Json:
        return get_value(self._document, (*self._prefix, *dotted.split(".")))

    def flag(self, dotted: str) -> bool:
        return bool(self.value(dotted))

    def whole(self, dotted: str) -> int:
        return int(self.value(dotted))

    def whole_or_none(self, dotted: str) -> int | None:
        return self._optional(dotted, int)

    def text(self, dotted: str) -> str:
        return str(self.value(dotted))

    def text_or_none(self, dotted: str) -> str | None:
        return self._optional(dotted, str)

    def path(self, dotted: str) -> Path:
        return Path(self.value(dotted))

    def path_or_none(self, dotted: str) -> Path | None:
        return self._optional(dotted, Path)

    def port(self, dotted: str) -> Address | None:
        return parse_port(self.value(dotted))

    def milliseconds(self, dotted: str) -> float:
        return float(self.value(dotted)) * _MS_S

    def duration(self, dotted: str, *, number_unit_s: float = _MS_S) -> float:
        return duration_s(self.value(dotted), number_unit_s=number_unit_s)

    def duration_or_none(self, dotted: str, *, number_unit_s: float = _MS_S) -> float | None:
        return self._optional(dotted, lambda value: duration_s(value, number_unit_s=number_unit_s))

    def items(self, dotted: str) -> tuple[Any, ...]:
        """A list, a single value as a list of one, nothing as an empty one; null items are left out."""
        value = self.value(dotted)
        items = value if isinstance(value, list) else [value]
        return tuple(item for item in items if item is not None)

    def _optional(self, dotted: str, convert: Callable[[Json], Value]) -> Value | None:
        value = self.value(dotted)
        return None if value is None else convert(value)


def read_settings(
    configuration: StartedConfiguration,
    *,
    first_administrator: FirstAdministrator | None = None,
    app_folder: Path | None = None,
    reload: bool = False,
) -> Settings:
    """The settings of this start."""
    document = configuration.effective
    read = _Reader(document)
    return Settings(
        root_path=configuration.root,
        mode=configuration.mode,
        hostname=read.text("node.hostname"),
        url=read.text_or_none("node.url"),
        is_first_start=configuration.is_first_start,
        first_administrator=first_administrator or FirstAdministrator(),
        app_folder=app_folder,
        reload=reload,
        threads_count=max(1, read.whole("threads.count")),
        operations_api=_operations_api(document),
        http=_http(document),
        authentication=_authentication(document, is_dev=configuration.mode == "dev"),
        analytics=_analytics(document),
        local_studio_enabled=read.flag("localStudio.enabled"),
        logging=_logging(document),
        mqtt=_mqtt(document),
        replication=_replication(document),
        storage=_storage(document),
        disk=_disk(document),
        tls=_tls(document.get("tls")),
        license=LicenseSettings(
            region=read.text_or_none("license.region"),
            public_key=read.text_or_none("license.publicKey"),
            public_key_file=read.path_or_none("license.publicKeyFile"),
        ),
        components=_components(document),
        exact_big_integers=read.flag("serialization.bigInt"),
        compatibility_version=read.text("compatibilityVersion"),
        sql_timeout_s=read.milliseconds("sql.timeout"),
        sql_memory_bytes_max=read.whole("sql.maxMemory"),
        bulk_file_paths=tuple(Path(item) for item in read.items("bulk.filePaths")),
        bulk_allow_local_urls=read.flag("bulk.allowLocalUrls"),
        document=document,
    )


def settings_warnings(settings: Settings, configuration: StartedConfiguration) -> tuple[str, ...]:
    """Warnings of the configuration and of what the settings made of it, for the log."""
    texts = [*configuration.warnings]
    wanted = get_value(configuration.effective, ("operationsApi", "network", "domainSocket"))
    if wanted is not None and settings.operations_api.domain_socket is None:
        texts.append(f"No domain socket: '{wanted}' is longer than {DOMAIN_SOCKET_BYTES_MAX} bytes")
    texts += [
        f"'{'.'.join(path)}' has no effect yet" for path in _WITHOUT_EFFECT if get_value(configuration.effective, path)
    ]
    return tuple(texts)


def domain_socket_path(path: Path | None) -> Path | None:
    """``path`` when the system can bind a socket there, else None."""
    return None if path is None or len(os.fsencode(path)) > DOMAIN_SOCKET_BYTES_MAX else path


def _listeners(read: _Reader) -> dict[str, Any]:
    """Fields that every HTTP listener has, for its class's constructor."""
    return {
        "port": read.port("port"),
        "secure_port": read.port("securePort"),
        "cors": read.flag("cors"),
        "cors_access_list": read.items("corsAccessList"),
        "timeout_s": read.milliseconds("timeout"),
        "keep_alive_timeout_s": read.milliseconds("keepAliveTimeout"),
        "headers_timeout_s": read.milliseconds("headersTimeout"),
        "http2": read.flag("http2"),
        "client_certificates": _client_certificates(read),
    }


def _operations_api(document: Mapping[str, Json]) -> OperationsApiSettings:
    network = _Reader(document, "operationsApi.network")
    read = _Reader(document, "operationsApi")
    return OperationsApiSettings(
        **_listeners(network),
        domain_socket=domain_socket_path(network.path_or_none("domainSocket")),
        fast_lane=network.flag("fastLane"),
        tls=_tls(read.value("tls")),
        sys_info_disk=read.flag("sysInfo.disk"),
        sys_info_network=read.flag("sysInfo.network"),
        metrics=read.flag("metrics"),
    )


def _http(document: Mapping[str, Json]) -> HttpSettings:
    read = _Reader(document, "http")
    return HttpSettings(
        **_listeners(read),
        cors_allow_headers=read.text("corsAccessControlAllowHeaders"),
        max_header_size_bytes=read.whole("maxHeaderSize"),
        max_param_length=read.whole_or_none("maxParamLength"),
        request_queue_limit_s=read.milliseconds("requestQueueLimit"),
        compression_threshold_bytes=read.whole("compressionThreshold"),
        log_timing=read.flag("logging.timing"),
        log_headers=read.flag("logging.headers"),
        log_id=read.flag("logging.id"),
    )


def _authentication(document: Mapping[str, Json], *, is_dev: bool) -> AuthenticationSettings:
    read = _Reader(document, "authentication")
    return AuthenticationSettings(
        authorize_local=read.flag("authorizeLocal") and is_dev,
        cache_ttl_s=read.milliseconds("cacheTTL"),
        enable_sessions=read.flag("enableSessions"),
        cookie_domains=read.items("cookie.domains"),
        cookie_expires_s=read.duration_or_none("cookie.expires", number_unit_s=1.0),
        operation_token_timeout_s=read.duration("operationTokenTimeout", number_unit_s=1.0),
        refresh_token_timeout_s=read.duration("refreshTokenTimeout", number_unit_s=1.0),
        hash_function=read.text("hashFunction"),
    )


def _analytics(document: Mapping[str, Json]) -> AnalyticsSettings:
    read = _Reader(document, "analytics")
    period_s = float(read.value("aggregatePeriod"))
    return AnalyticsSettings(
        aggregate_period_s=max(0.0, period_s), is_recording=period_s >= 0, replicate=read.flag("replicate")
    )


def _logging(document: Mapping[str, Json]) -> LoggingSettings:
    read = _Reader(document, "logging")
    logs = {section: _section_log(get_value(document, (section, "logging"))) for section in SECTIONS_WITH_LOGGING}
    return LoggingSettings(
        level=read.text("level"),
        file=read.flag("file"),
        std_streams=read.flag("stdStreams"),
        root=read.path("root"),
        path=read.path_or_none("path") or read.path("root") / "hdb.log",
        console=read.flag("console"),
        colors=read.flag("colors"),
        audit_log=read.flag("auditLog"),
        audit_retention_s=read.duration("auditRetention"),
        log_failed_authentications=read.flag("auditAuthEvents.logFailed"),
        log_successful_authentications=read.flag("auditAuthEvents.logSuccessful"),
        rotation=_rotation(_Reader(document, "logging.rotation")),
        external=_section_log(read.value("external")),
        sections={section: log for section, log in logs.items() if log is not None},
    )


def _rotation(read: _Reader) -> RotationSettings:
    interval, size = read.text_or_none("interval"), read.text_or_none("maxSize")
    return RotationSettings(
        enabled=read.flag("enabled"),
        compress=read.flag("compress"),
        interval_s=None if interval is None else float(interval[:-1]) * _ROTATION_INTERVAL_UNIT_S[interval[-1]],
        size_bytes_max=None if size is None else int(float(size[:-1]) * _ROTATION_SIZE_UNIT_BYTES[size[-1]]),
        path=read.path("path"),
        retention_s=read.duration_or_none("retention"),
    )


def _section_log(value: Json) -> SectionLog | None:
    if not isinstance(value, Mapping):
        return None
    read = _Reader(value)
    std_streams = read.value("stdStreams")
    return SectionLog(
        path=read.path_or_none("path"),
        root=read.path_or_none("root"),
        level=read.text_or_none("level"),
        tag=read.text_or_none("tag"),
        std_streams=None if std_streams is None else bool(std_streams),
    )


def _mqtt(document: Mapping[str, Json]) -> MqttSettings:
    read, network = _Reader(document, "mqtt"), _Reader(document, "mqtt.network")
    return MqttSettings(
        port=network.port("port"),
        secure_port=network.port("securePort"),
        client_certificates=_client_certificates(network),
        web_socket=read.flag("webSocket"),
        require_authentication=read.flag("requireAuthentication"),
        empty_delete=read.flag("emptyDelete"),
    )


def _replication(document: Mapping[str, Json]) -> ReplicationSettings:
    read = _Reader(document, "replication")
    takes_part = any(read.items(key) for key in ("hostname", "url", "routes", "join"))
    name = read.text_or_none("hostname") or _Reader(document).text("node.hostname")
    secure_port = read.port("securePort") if takes_part else None
    port = read.port("port") if takes_part else None
    ping_interval_s = read.milliseconds("pingInterval")
    ping_timeout_ms = read.value("pingTimeout")
    return ReplicationSettings(
        takes_part=takes_part,
        node_name=name,
        url=(read.text_or_none("url") or _derived_url(name, secure_port, port)) if takes_part else None,
        secure_port=secure_port,
        port=port,
        databases=_replicated_databases(read.items("databases")),
        routes=read.items("routes"),
        enable_root_cas=read.flag("enableRootCAs"),
        shard=read.whole_or_none("shard"),
        replicate_to=read.whole_or_none("replicateTo"),
        fail_over=read.flag("failOver"),
        copy_tables_to_catch_up=read.flag("copyTablesToCatchUp"),
        client_certificates=_client_certificates(read),
        blob_timeout_s=read.milliseconds("blobTimeout"),
        ping_interval_s=ping_interval_s,
        ping_timeout_s=2 * ping_interval_s if ping_timeout_ms is None else ping_timeout_ms * _MS_S,
        payload_bytes_max=read.whole("maxPayload"),
        receive_memory_bytes=read.whole("receiveMemory"),
        confirmation_timeout_s=read.milliseconds("confirmationTimeout"),
        clock_skew_s_max=read.milliseconds("maxClockSkew"),
        mark_interval_s=read.milliseconds("markInterval"),
        join=tuple(host for host in _hosts(read.items("join")) if host != name),
        join_ca=read.path_or_none("joinCa"),
    )


def _derived_url(name: str, secure_port: Address | None, port: Address | None) -> str | None:
    host = f"[{name}]" if ":" in name else name
    if secure_port is not None:
        return f"wss://{host}:{secure_port.port}"
    return None if port is None else f"ws://{host}:{port.port}"


def _replicated_databases(items: tuple[Any, ...]) -> tuple[ReplicatedDatabase, ...] | None:
    if items in ((), ("*",)):
        return None
    return tuple(
        ReplicatedDatabase(
            name=str(item["name"]), sharded=bool(item.get("sharded")), replicate_to=_count(item.get("replicateTo"))
        )
        if isinstance(item, Mapping)
        else ReplicatedDatabase(name=str(item))
        for item in items
    )


def _count(value: Any) -> int | None:
    """A count of nodes; what is none counts as not said."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _hosts(items: tuple[Any, ...]) -> Iterator[str]:
    """Hosts of a list, or of text that names them with commas between, as environment variables do."""
    for item in items:
        yield from (host for host in (part.strip() for part in str(item).split(",")) if host)


def _storage(document: Mapping[str, Json]) -> StorageSettings:
    read, replication = _Reader(document, "storage"), _Reader(document, "replication")
    return StorageSettings(
        path=read.path("path"),
        database_paths=dict(_database_paths(document)),
        map_size_bytes=read.whole("mapSize"),
        sync=not read.flag("writeAsync"),
        read_ahead=not read.flag("noReadAhead"),
        entry_bytes_max=replication.whole("maxPayload"),
        clock_skew_us_max=int(replication.milliseconds("maxClockSkew") * 1_000_000),
        queue_wait_s_max=read.duration("maxTransactionQueueTime"),
        audit_retention_s=_Reader(document, "logging").duration("auditRetention"),
    )


def _disk(document: Mapping[str, Json]) -> DiskSettings:
    read = _Reader(document, "storage")
    return DiskSettings(
        blob_paths=tuple(Path(item) for item in read.items("blobPaths")),
        compact_on_start=read.flag("compactOnStart"),
        compact_on_start_keep_backup=read.flag("compactOnStartKeepBackup"),
        reclamation_threshold=float(read.value("reclamation.threshold")),
        reclamation_interval_s=read.duration("reclamation.interval"),
        eviction_factor=float(read.value("reclamation.evictionFactor")),
    )


def _database_paths(document: Mapping[str, Json]) -> Iterator[tuple[str, Path]]:
    for name, entry in (document.get("databases") or {}).items():
        if entry.get("path") is not None:
            yield name, Path(entry["path"])


def _components(document: Mapping[str, Json]) -> ComponentSettings:
    read = _Reader(document, "components")
    return ComponentSettings(
        root=_Reader(document).path("componentsRoot"),
        allow_code=read.flag("allowCode"),
        allow_insecure_downloads=read.flag("allowInsecureDownloads"),
        allow_shell=read.flag("allowShell"),
        limits=read.value("limits") or {},
        entries={name: entry for name, entry in document.items() if name not in SECTIONS},
    )


def _client_certificates(read: _Reader) -> ClientCertificates | None:
    value = read.value("mtls")
    if value is None or value is False:
        return None
    if value is True:
        return ClientCertificates()
    mtls = _Reader(value)
    verification = mtls.value("certificateVerification")
    return ClientCertificates(
        is_required=mtls.flag("required"),
        user=mtls.text_or_none("user") if "user" in value else "CN",
        authority=mtls.path_or_none("certificateAuthority"),
        verification=verification if isinstance(verification, Mapping) else {} if verification else None,
    )


def _tls(value: Json) -> tuple[TlsFiles, ...]:
    entries = value if isinstance(value, list) else [] if value is None else [value]
    return tuple(
        TlsFiles(
            private_key=read.path_or_none("privateKey"),
            certificate=read.path_or_none("certificate"),
            authority=read.path_or_none("certificateAuthority"),
            host=read.text_or_none("host"),
            ciphers=read.text_or_none("ciphers"),
        )
        for read in (_Reader(entry) for entry in entries)
    )
