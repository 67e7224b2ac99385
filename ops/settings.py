"""Settings that the operations read: made once at the start, passed in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

HashFunction: TypeAlias = Literal["md5", "sha256", "argon2id"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpsSettings:
    node: str
    """This node's name."""
    version: str
    root_path: Path
    keys_path: Path
    log_path: Path
    """Folder of the log files."""
    authorize_local: bool = False
    """Whether a loopback request without credentials counts as a super user (dev mode only)."""
    credential_cache_s: float = 30.0
    """How long a verified credential is not verified again."""
    enable_sessions: bool = True
    cookie_domains: tuple[str, ...] = ()
    cookie_expires: str | int | None = None
    operation_token_timeout: str | int = "1d"
    refresh_token_timeout: str | int = "30d"
    hash_function: HashFunction = "argon2id"
    audit_log: bool = True
    """Whether the audit view of the log is offered; the log itself does not depend on it."""
    log_failed_logins: bool = False
    log_successful_logins: bool = False
    exact_integers: bool = True
    """Read and write integers beyond 2^53 exactly (``serialization.bigInt``)."""
    collect_disk: bool = True
    collect_network: bool = True
    queue_wait_s_max: float = 20.0
    """Estimated delay from which on requests are refused (``http.requestQueueLimit``)."""
