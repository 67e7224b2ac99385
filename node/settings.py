"""What a node is started with: the whole configuration as typed values, read once and passed in.

Every duration is float seconds, every size bytes, every path absolute, every listener a ``Address`` or None for a
closed port. ``settings_reader.py`` makes these from the configuration; nothing else reads configuration keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.parameter import Mode
from ops.serving_settings import Address
from replication.agreements import ReplicatedDatabase
from storage.settings import StorageSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificates:
    """``mtls`` of a listener that asks for client certificates; a listener that does not has None."""

    is_required: bool = False
    user: str | None = "CN"
    """``CN``, a user that every certificate stands for, or None: the certificate logs nobody in."""
    authority: Path | None = None
    verification: Mapping[str, Any] | None = None
    """Revocation checks as configured, {} for all defaults, None when they are off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Key and certificates named by configuration. Missing ones come from the node's own keys folder."""

    private_key: Path | None = None
    certificate: Path | None = None
    authority: Path | None = None
    host: str | None = None
    ciphers: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionLog:
    """A log of its own for one section; None values follow the node's log."""

    path: Path | None = None
    root: Path | None = None
    level: str | None = None
    tag: str | None = None
    std_streams: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """What the HTTP listeners of the operations API and of REST have in common."""

    port: Address | None
    secure_port: Address | None
    cors: bool
    cors_access_list: tuple[str, ...]
    """Origins, ``*`` for all; empty for nobody."""
    timeout_s: float
    keep_alive_timeout_s: float
    headers_timeout_s: float
    http2: bool
    client_certificates: ClientCertificates | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationsApiSettings(Listeners):
    domain_socket: Path | None
    fast_lane: bool
    tls: tuple[TlsFiles, ...]
    """Empty: the top-level ``tls`` serves here too."""
    sys_info_disk: bool
    sys_info_network: bool
    metrics: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings(Listeners):
    cors_allow_headers: str
    max_header_size_bytes: int
    max_param_length: int | None
    request_queue_limit_s: float
    compression_threshold_bytes: int
    log_timing: bool
    log_headers: bool
    log_id: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticationSettings:
    authorize_local: bool
    """False in prod mode, whatever the configuration says."""
    cache_ttl_s: float
    enable_sessions: bool
    cookie_domains: tuple[str, ...]
    cookie_expires_s: float | None
    operation_token_timeout_s: float
    refresh_token_timeout_s: float
    hash_function: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyticsSettings:
    aggregate_period_s: float
    """0: no aggregation."""
    is_recording: bool
    replicate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationSettings:
    enabled: bool
    compress: bool
    interval_s: float | None
    size_bytes_max: int | None
    path: Path
    retention_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingSettings:
    level: str
    file: bool
    std_streams: bool
    root: Path
    path: Path
    console: bool
    colors: bool
    audit_log: bool
    audit_retention_s: float
    log_failed_authentications: bool
    log_successful_authentications: bool
    rotation: RotationSettings
    external: SectionLog | None
    sections: Mapping[str, SectionLog]
    """By section (``http``, ``replication``, …): those that have a log of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings:
    port: Address | None
    secure_port: Address | None
    client_certificates: ClientCertificates | None
    web_socket: bool
    require_authentication: bool
    empty_delete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationSettings:
    takes_part: bool
    """Name, URL, routes or ``join`` are configured: only then the ports below are open (None otherwise)."""
    node_name: str
    """Configured name, else the node's host name."""
    url: str | None
    """Where peers dial; derived from name and port when not configured. None when the node does not take part."""
    secure_port: Address | None
    port: Address | None
    databases: tuple[ReplicatedDatabase, ...] | None
    """None: all."""
    routes: tuple[Any, ...]
    """As configured: text or objects. A bad route is logged and skipped by whoever reads it."""
    enable_root_cas: bool
    shard: int | None
    replicate_to: int | None
    fail_over: bool
    copy_tables_to_catch_up: bool
    client_certificates: ClientCertificates | None
    blob_timeout_s: float
    ping_interval_s: float
    ping_timeout_s: float
    payload_bytes_max: int
    receive_memory_bytes: int
    confirmation_timeout_s: float
    clock_skew_s_max: float
    mark_interval_s: float
    join: tuple[str, ...]
    """Members to ask for admission, this node's own name left out."""
    join_ca: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSettings:
    """What concerns the disk beside the storage layer's own settings."""

    blob_paths: tuple[Path, ...]
    compact_on_start: bool
    compact_on_start_keep_backup: bool
    reclamation_threshold: float
    """Free share of the disk, 0 to 1."""
    reclamation_interval_s: float
    eviction_factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseSettings:
    region: str | None
    public_key: str | None
    """PEM text."""
    public_key_file: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentSettings:
    root: Path
    allow_code: bool
    allow_insecure_downloads: bool
    allow_shell: bool
    limits: Mapping[str, Any]
    entries: Mapping[str, Any]
    """Top-level keys of the configuration that are no sections of the node: name -> as configured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstAdministrator:
    """Credentials for the first start. They come from the command line or the environment and are never written."""

    username: str = "admin"
    password: str | None = field(default=None, repr=False)
    """None: one is generated and printed once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    root_path: Path
    mode: Mode
    hostname: str
    url: str | None
    is_first_start: bool
    """This start made the configuration file."""
    first_administrator: FirstAdministrator
    app_folder: Path | None
    """A component's folder given on the command line."""
    reload: bool
    """``logmesh dev``: components are loaded again when their files change."""
    threads_count: int
    """Worker processes, 1 at least."""
    operations_api: OperationsApiSettings
    http: HttpSettings
    authentication: AuthenticationSettings
    analytics: AnalyticsSettings
    local_studio_enabled: bool
    logging: LoggingSettings
    mqtt: MqttSettings
    replication: ReplicationSettings
    storage: StorageSettings
    disk: DiskSettings
    tls: tuple[TlsFiles, ...]
    license: LicenseSettings
    components: ComponentSettings
    exact_big_integers: bool
    compatibility_version: str
    sql_timeout_s: float
    sql_memory_bytes_max: int
    bulk_file_paths: tuple[Path, ...]
    bulk_allow_local_urls: bool
    document: Mapping[str, Any] = field(repr=False)
    """The effective configuration that all this was read from: what ``Configuration`` calls the running values."""

    @property
    def keys_path(self) -> Path:
        return self.root_path / "keys"
