"""Logging settings of a test's own, with everything off that it does not ask for."""

import dataclasses
from pathlib import Path
from typing import Any

from node.settings import LoggingSettings, RotationSettings


def logging_settings(folder: Path, **changes: Any) -> LoggingSettings:
    settings = LoggingSettings(
        level="trace",
        file=True,
        std_streams=False,
        root=folder,
        path=folder / "hdb.log",
        console=False,
        colors=True,
        audit_log=True,
        audit_retention_s=0.0,
        log_failed_authentications=False,
        log_successful_authentications=False,
        rotation=rotation_settings(folder),
        external=None,
        sections={},
    )
    return dataclasses.replace(settings, **changes)


def rotation_settings(folder: Path, **changes: Any) -> RotationSettings:
    settings = RotationSettings(
        enabled=True, compress=False, interval_s=None, size_bytes_max=None, path=folder, retention_s=None
    )
    return dataclasses.replace(settings, **changes)
