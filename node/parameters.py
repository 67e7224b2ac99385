"""Every parameter of ``logmesh.yaml``: the one table from which file, flat names, checks and help are derived.

Rows stand in the order of a new file. To add a parameter, add its row here and read it in ``settings_reader.py``. ``†``
before a sentence's end means no effect in this node: such settings belong to other runtimes and are only kept.
"""

import os
import socket
from collections.abc import Iterable, Mapping
from typing import Any

from node.parameter import Json, Kind, Parameter, PerMode

LOG_LEVELS = ("notify", "fatal", "error", "warn", "info", "debug", "trace")
HASH_FUNCTIONS = ("md5", "sha256", "argon2id")
THREADS_MAX = 1000
SECTIONS_WITH_LOGGING = ("http", "mqtt", "authentication", "replication", "tls", "storage", "analytics")
_EVERYBODY = ("*",)
_NOBODY = (None,)


def _host_name() -> str:
    return socket.gethostname() or "localhost"


def _core_count() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _parameter(
    dotted: str, kinds: tuple[Kind, ...], default: Json, sentence: str, rules: Mapping[str, Any]
) -> Parameter:
    return Parameter(
        path=tuple(dotted.split(".")),
        kinds=kinds,
        default=default,
        sentence=sentence.removesuffix(" †"),
        has_effect=not sentence.endswith(" †"),
        in_template=bool(rules.get("new_file")) or rules.get("template_value") is not None,
        **{name: value for name, value in rules.items() if name != "new_file"},
    )


def _flag(dotted: str, default: Json, sentence: str, **rules: Any) -> Parameter:
    return _parameter(dotted, (Kind.BOOLEAN,), default, sentence, rules)


def _number(dotted: str, default: Json, sentence: str, **rules: Any) -> Parameter:
    return _parameter(dotted, (Kind.NUMBER,), default, sentence, rules)


def _milliseconds(dotted: str, default: Json, sentence: str, **rules: Any) -> Parameter:
    return _number(dotted, default, f"{sentence} (ms)", **{"at_least": 1, **rules})


def _text(dotted: str, default: Json, sentence: str, **rules: Any) -> Parameter:
    return _parameter(dotted, (Kind.TEXT,), default, sentence, rules)


def _path(dotted: str, default: Json, sentence: str, **rules: Any) -> Parameter:
    return _parameter(dotted, (Kind.PATH,), default, sentence, rules)


def _port(dotted: str, prod: Json, dev: Json, sentence: str, **rules: Any) -> Parameter:
    return _parameter(dotted, (Kind.PORT,), PerMode(prod=prod, dev=dev), sentence, rules)


def _list(dotted: str, default: Json, sentence: str, **rules: Any) -> Parameter:
    return _parameter(dotted, (Kind.LIST,), default, sentence, rules)


def _object(dotted: str, sentence: str, **rules: Any) -> Parameter:
    return _parameter(dotted, (Kind.OBJECT,), None, sentence, rules)


def _either(dotted: str, kinds: tuple[Kind, ...], default: Json, sentence: str, **rules: Any) -> Parameter:
    return _parameter(dotted, kinds, default, sentence, rules)


def _duration(dotted: str, default: Json, sentence: str, **rules: Any) -> Parameter:
    return _parameter(dotted, (Kind.DURATION,), default, sentence, rules)


_FLAG_OR_OBJECT = (Kind.BOOLEAN, Kind.OBJECT)
_OBJECT_OR_LIST = (Kind.OBJECT, Kind.LIST)
_DURATION_OR_NUMBER = (Kind.DURATION, Kind.NUMBER)
_TEXT_OR_LIST = (Kind.TEXT, Kind.LIST)


def _mtls(dotted: str, **rules: Any) -> Iterable[Parameter]:
    """Client certificates of a listener: off, on, or an object."""
    yield _either(
        dotted, _FLAG_OR_OBJECT, False, "Client certificates: off, on, or an object", may_be_null=True, **rules
    )
    yield _text(f"{dotted}.user", None, "User of a certificate: CN, or a name that is always taken")
    yield _flag(f"{dotted}.required", None, "Refuse connections without a valid client certificate")
    yield _path(f"{dotted}.certificateAuthority", None, "PEM file of the authorities that sign client certificates")
    verification = f"{dotted}.certificateVerification"
    yield _either(verification, _FLAG_OR_OBJECT, False, "Check revocation of client certificates (CRL, OCSP)")
    for source in ("crl", "ocsp"):
        yield _object(f"{verification}.{source}", f"Time limits and failure mode of {source.upper()} checks")
    yield _text(
        f"{verification}.failureMode", None, "When revocation cannot be checked", choices=("fail-open", "fail-closed")
    )


def _tls(dotted: str, **private_key_rules: Any) -> Iterable[Parameter]:
    """Key and certificates of listeners: one object, or a list of them by host."""
    yield _either(dotted, _OBJECT_OR_LIST, None, "Key and certificates: an object, or a list of them by host")
    yield _path(f"{dotted}.privateKey", None, "PEM file of the private key", **private_key_rules)
    yield _path(f"{dotted}.certificate", None, "PEM file of the certificate chain")
    yield _path(f"{dotted}.certificateAuthority", None, "PEM file of the authorities to trust")
    yield _text(f"{dotted}.host", None, "Host name that this certificate is for")
    yield _text(f"{dotted}.ciphers", None, "OpenSSL cipher list")


def _section_logging(section: str) -> Iterable[Parameter]:
    """A log of its own for one section of the node."""
    yield _object(f"{section}.logging", f"A log of its own for {section}")
    yield _path(f"{section}.logging.path", None, "File of that log")
    yield _path(f"{section}.logging.root", None, "Folder of that log")
    yield _text(f"{section}.logging.level", None, "Least severe level that is written", choices=LOG_LEVELS)
    yield _text(f"{section}.logging.tag", None, "Tag on each line")
    yield _flag(f"{section}.logging.stdStreams", None, "Write it to the standard streams as well")


def _node() -> Iterable[Parameter]:
    yield _path("rootPath", None, "Root of data, configuration, logs and keys", new_file=True)
    yield _path("componentsRoot", "components", "Folder of the components", new_file=True)
    yield _text("node.hostname", PerMode(prod=_host_name, dev="localhost"), "This node's name", new_file=True)
    yield _text("node.mode", PerMode(prod="prod", dev="dev"), "prod or dev", choices=("prod", "dev"), new_file=True)
    yield _text("node.url", None, "This node's URL for peers")
    yield _flag("ignoreScripts", False, "No package scripts at deploy †")
    yield _flag("serialization.bigInt", True, "Exact large integers in JSON")


def _operations_api() -> Iterable[Parameter]:
    network = "operationsApi.network"
    yield _port(f"{network}.port", None, 9925, "Plain port of the operations API; null is closed", new_file=True)
    yield _port(f"{network}.securePort", 9925, 9943, "TLS port of the operations API; null is closed", new_file=True)
    yield _path(
        f"{network}.domainSocket",
        "operations-server",
        "Socket for the command line; null: none",
        may_be_null=True,
        new_file=True,
    )
    yield _flag(f"{network}.cors", True, "Answer cross-origin requests", new_file=True)
    yield _list(f"{network}.corsAccessList", _EVERYBODY, "Origins that may ask", new_file=True)
    yield _milliseconds(f"{network}.timeout", 120_000, "Longest silence of a socket")
    yield _milliseconds(f"{network}.keepAliveTimeout", 30_000, "Longest pause between two requests")
    yield _milliseconds(f"{network}.headersTimeout", 60_000, "Longest time for the head of a request")
    yield _flag(f"{network}.http2", False, "Offer HTTP/2 over TLS")
    yield from _mtls(f"{network}.mtls")
    yield _flag(f"{network}.fastLane", True, "Answer POST / outside the general HTTP server; same answers either way")
    yield from _tls("operationsApi.tls")
    yield _flag("operationsApi.sysInfo.disk", True, "Collect the disk group of system_information")
    yield _flag("operationsApi.sysInfo.network", True, "Collect the network group of system_information")
    yield _flag("operationsApi.metrics", False, "Offer GET /metrics")


def _http() -> Iterable[Parameter]:
    yield _port("http.port", None, 9926, "Plain port of REST and components; null is closed", new_file=True)
    yield _port("http.securePort", 9926, 9927, "TLS port of REST and components; null is closed", new_file=True)
    yield _flag("http.cors", PerMode(prod=False, dev=True), "Answer cross-origin requests", new_file=True)
    yield _list("http.corsAccessList", PerMode(prod=_NOBODY, dev=_EVERYBODY), "Origins that may ask", new_file=True)
    yield _text(
        "http.corsAccessControlAllowHeaders", "Accept, Content-Type, Authorization", "Headers that origins may send"
    )
    yield _milliseconds("http.timeout", 120_000, "Longest silence of a socket", new_file=True)
    yield _milliseconds("http.keepAliveTimeout", 30_000, "Longest pause between two requests", new_file=True)
    yield _milliseconds("http.headersTimeout", 60_000, "Longest time for the head of a request")
    yield _number("http.maxHeaderSize", 16_394, "Largest head of a request (bytes)", at_least=1024, is_whole=True)
    yield _number("http.maxParamLength", None, "Longest part of a URL path (characters)", at_least=1)
    yield _milliseconds("http.requestQueueLimit", 20_000, "Estimated delay beyond which requests are refused")
    yield _number(
        "http.compressionThreshold", 1200, "Smallest REST answer that is compressed (bytes)", at_least=0, new_file=True
    )
    yield _flag("http.http2", False, "Offer HTTP/2 over TLS", new_file=True)
    yield _text("http.sessionAffinity", None, "Worker by address or header †")
    yield _either("http.threadRange", _TEXT_OR_LIST, None, "Range of worker threads †")
    yield from _mtls("http.mtls", new_file=True)
    for key in ("timing", "headers", "id"):
        yield _flag(f"http.logging.{key}", None, f"Log the {key} of each request")


def _process() -> Iterable[Parameter]:
    yield _number(
        "threads.count",
        PerMode(prod=_core_count, dev=1),
        "Worker processes; 0 counts as 1",
        at_least=0,
        at_most=THREADS_MAX,
        is_whole=True,
        new_file=True,
    )
    yield _either("threads.debug", _FLAG_OR_OBJECT, False, "Debugger of the workers †", new_file=True)
    yield _number("threads.maxHeapMemory", None, "Heap of a worker (MB) †", at_least=0)
    yield _flag(
        "authentication.authorizeLocal",
        PerMode(prod=False, dev=True),
        "Loopback requests without credentials run as super user; dev mode only",
        new_file=True,
    )
    yield _milliseconds(
        "authentication.cacheTTL",
        30_000,
        "How long a checked password is remembered",
        at_least=0,
        is_required=True,
        new_file=True,
    )
    yield _flag("authentication.enableSessions", True, "Offer login and session cookies", new_file=True)
    yield _list("authentication.cookie.domains", None, "Domains that a session cookie is for")
    yield _either(
        "authentication.cookie.expires", _DURATION_OR_NUMBER, None, "Life of a session cookie; a number is seconds"
    )
    yield _either(
        "authentication.operationTokenTimeout",
        _DURATION_OR_NUMBER,
        "1d",
        "Life of an operation token; a number is seconds",
        at_least=0,
        new_file=True,
    )
    yield _either(
        "authentication.refreshTokenTimeout",
        _DURATION_OR_NUMBER,
        "30d",
        "Life of a refresh token; a number is seconds",
        at_least=0,
        new_file=True,
    )
    yield _text("authentication.hashFunction", "argon2id", "How new passwords are stored", choices=HASH_FUNCTIONS)
    yield _number(
        "analytics.aggregatePeriod",
        60,
        "Seconds between aggregates; 0: none, -1: no recording",
        at_least=-1,
        new_file=True,
    )
    yield _flag("analytics.replicate", False, "Replicate aggregates", new_file=True)
    yield _flag(
        "localStudio.enabled", PerMode(prod=False, dev=True), "Dashboard at GET / of the operations port", new_file=True
    )


def _logging() -> Iterable[Parameter]:
    yield _text(
        "logging.level",
        PerMode(prod="warn", dev="info"),
        "Least severe level that is written",
        choices=LOG_LEVELS,
        new_file=True,
    )
    yield _flag("logging.file", True, "Write the log file", is_required=True, new_file=True)
    yield _flag(
        "logging.stdStreams",
        PerMode(prod=False, dev=True),
        "Write to the standard streams",
        is_required=True,
        new_file=True,
    )
    yield _path("logging.root", "log", "Folder of the log file", new_file=True)
    yield _path("logging.path", None, "Log file; hdb.log in the log folder when not set")
    yield _flag("logging.console", False, "Capture what the process prints")
    yield _flag("logging.colors", True, "Colours on a terminal")
    yield _flag("logging.auditLog", True, "Offer the audit log", is_required=True, new_file=True)
    yield _either(
        "logging.auditRetention",
        _DURATION_OR_NUMBER,
        "3d",
        "Age at which log entries may go; a number is ms",
        at_least=0,
        new_file=True,
    )
    yield _flag("logging.auditAuthEvents.logFailed", False, "Log failed authentications", new_file=True)
    yield _flag("logging.auditAuthEvents.logSuccessful", False, "Log successful authentications", new_file=True)
    yield _flag("logging.rotation.enabled", True, "Rotate the log file", new_file=True)
    yield _flag("logging.rotation.compress", False, "Compress rotated files", new_file=True)
    yield _text("logging.rotation.interval", None, "Age that rotates: <n>D, <n>H or <n>M (minutes)", new_file=True)
    yield _text("logging.rotation.maxSize", None, "Size that rotates: <n>G, <n>M or <n>K", template_value="64M")
    yield _path("logging.rotation.path", "log", "Folder of rotated files", new_file=True)
    yield _duration("logging.rotation.retention", None, "Age at which rotated files are deleted")
    yield _object("logging.external", "Log of the components")
    yield _text("logging.external.level", None, "Least severe level of components that is written", choices=LOG_LEVELS)
    yield _path("logging.external.path", None, "File of the components' log")
    yield _text("logging.external.tag", None, "Tag on each line of components")


def _mqtt() -> Iterable[Parameter]:
    yield _port("mqtt.network.port", None, 1883, "Plain MQTT port; null is closed", new_file=True)
    yield _port("mqtt.network.securePort", 8883, 8883, "TLS MQTT port; null is closed", new_file=True)
    yield from _mtls("mqtt.network.mtls", new_file=True)
    yield _flag("mqtt.webSocket", True, "MQTT over websockets on the http port", new_file=True)
    yield _flag("mqtt.requireAuthentication", True, "Refuse clients without credentials", new_file=True)
    yield _flag("mqtt.emptyDelete", False, "An empty retained message deletes the record")


def _replication() -> Iterable[Parameter]:
    yield _text("replication.hostname", None, "This node's name for peers: the certificate's CN or a SAN")
    yield _text("replication.url", None, "URL that peers dial; derived from name and port when not set")
    yield _port("replication.securePort", 9933, 9933, "Mutual-TLS port for peers")
    yield _port("replication.port", None, None, "Plain port for peers: insecure, for closed networks only")
    yield _either("replication.databases", _TEXT_OR_LIST, "*", "'*', or names, or objects {name, sharded, replicateTo}")
    yield _list("replication.routes", (), "Peers: host, URL or object")
    yield _flag("replication.enableRootCAs", True, "Trust the public authorities for peers")
    yield _number("replication.shard", None, "This node's shard", is_whole=True)
    yield _number("replication.replicateTo", None, "Nodes that hold each record", at_least=0, is_whole=True)
    yield _flag("replication.failOver", True, "Take a lost peer's changes from other peers")
    yield _flag("replication.copyTablesToCatchUp", True, "Copy whole tables when logs no longer reach back")
    yield from _mtls("replication.mtls")
    yield _milliseconds("replication.blobTimeout", 120_000, "Longest pause of one large transfer")
    yield _milliseconds("replication.pingInterval", 30_000, "Time between pings")
    yield _milliseconds("replication.pingTimeout", None, "Silence that ends a link; twice the interval when not set")
    yield _number(
        "replication.maxPayload",
        100_000_000,
        "Largest frame, and largest transaction (bytes)",
        at_least=65_536,
        is_whole=True,
    )
    yield _number(
        "replication.receiveMemory",
        268_435_456,
        "Credit that all links share (bytes)",
        at_least=1_048_576,
        is_whole=True,
    )
    yield _milliseconds("replication.confirmationTimeout", 60_000, "Longest wait for replicatedConfirmation")
    yield _milliseconds("replication.maxClockSkew", 60_000, "How far a peer's clock may be ahead", at_least=0)
    yield _milliseconds("replication.markInterval", 60_000, "Shortest time between marks")
    yield _either("replication.join", _TEXT_OR_LIST, None, "Members to ask for admission at the first start")
    yield _path("replication.joinCa", None, "PEM file that verifies the first member's certificate")


def _storage() -> Iterable[Parameter]:
    yield _flag(
        "storage.writeAsync",
        False,
        "Skip disk syncs: a power loss may take acknowledged writes",
        is_required=True,
        new_file=True,
    )
    yield _path("storage.path", "database", "Folder of the databases", new_file=True)
    yield _either("storage.blobPaths", (Kind.PATH, Kind.LIST), "blobs", "Folders of large values")
    yield _number(
        "storage.mapSize", 1 << 40, "Address space reserved per database (bytes)", at_least=1_048_576, is_whole=True
    )
    yield _path("storage.audit.path", None, "Folder of audit logs †")
    yield _flag("storage.caching", True, "Cache records †", new_file=True)
    yield _either("storage.compression", _FLAG_OR_OBJECT, True, "Compress records †", new_file=True)
    yield _flag("storage.compactOnStart", False, "Compact the databases before the start")
    yield _flag("storage.compactOnStartKeepBackup", False, "Keep the files from before compaction")
    yield _flag(
        "storage.noReadAhead", False, "Do not read ahead: better when data is larger than memory", new_file=True
    )
    yield _flag("storage.prefetchWrites", True, "Prefetch pages before writes †", new_file=True)
    yield _flag("storage.overlappingSync", None, "Overlap syncs †")
    yield _number("storage.pageSize", None, "Page size (bytes) †", at_least=256)
    yield _duration("storage.maxTransactionQueueTime", "45s", "Expected wait beyond which writes are refused")
    yield _number("storage.maxFreeSpaceToLoad", None, "Free pages that are loaded at most", at_least=0)
    yield _number("storage.maxFreeSpaceToRetain", None, "Free pages that are kept at most", at_least=0)
    yield _number(
        "storage.reclamation.threshold",
        0.4,
        "Free share of the disk below which space is reclaimed",
        at_least=0,
        at_most=1,
    )
    yield _either(
        "storage.reclamation.interval", _DURATION_OR_NUMBER, "1h", "Time between looks; a number is ms", at_least=1
    )
    yield _number("storage.reclamation.evictionFactor", 100_000, "How eagerly cached records go", at_least=0)
    yield _object("databases", "Folders of single databases, read when they are created")


def _rest() -> Iterable[Parameter]:
    yield from _tls("tls", template_value="keys/privateKey.pem")
    yield _text("license.region", None, "Region whose licences are consumed")
    yield _text("license.mode", None, "Accepted and ignored")
    yield _text("license.publicKey", None, "PEM text of the key that licences are verified with")
    yield _path("license.publicKeyFile", None, "PEM file of that key")
    yield _text("compatibilityVersion", "4.7.0", "Version that clients are told")
    yield _milliseconds("sql.timeout", 60_000, "Longest run of a statement")
    yield _number("sql.maxMemory", 268_435_456, "Memory of a statement (bytes)", at_least=1_048_576, is_whole=True)
    yield _list("bulk.filePaths", (), "Folders that users other than super users may load files from")
    yield _flag(
        "bulk.allowLocalUrls", PerMode(prod=False, dev=True), "Load from addresses of this machine and its network"
    )
    yield _flag("components.allowCode", True, "Run code of components")
    yield _object("components.limits", "Largest archives of components")
    yield _flag("components.allowInsecureDownloads", False, "Load packages over plain HTTP")
    yield _flag("components.allowShell", False, "Run install commands through a shell")


PARAMETERS: tuple[Parameter, ...] = (
    *_node(),
    *_operations_api(),
    *_http(),
    *_process(),
    *_logging(),
    *_mqtt(),
    *_replication(),
    *_storage(),
    *_rest(),
    *(parameter for section in SECTIONS_WITH_LOGGING for parameter in _section_logging(section)),
)
"""All parameters. Paths are unique; a parameter that takes an object may have parameters below it."""

BY_PATH: Mapping[tuple[str, ...], Parameter] = {parameter.path: parameter for parameter in PARAMETERS}

SECTIONS: frozenset[str] = frozenset(parameter.path[0] for parameter in PARAMETERS)
"""Top-level keys that are the node's own; every other one is a component's."""

OPEN_OBJECTS: frozenset[tuple[str, ...]] = frozenset(
    parameter.path
    for parameter in PARAMETERS
    if Kind.OBJECT in parameter.kinds
    and not any(other.path[: len(parameter.path)] == parameter.path and other is not parameter for other in PARAMETERS)
)
"""Parameters that take objects whose keys are not parameters: anything may stand in them."""

PORT_TWINS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = tuple(
    ((*section, "port"), (*section, "securePort"))
    for section in (("operationsApi", "network"), ("http",), ("mqtt", "network"), ("replication",))
)
"""Plain port and TLS port of the same listener, which cannot share one number."""
