"""``logmesh <operation> key=value ...``: one operation sent to the local node's socket, or to a ``target``.

A value is JSON where it parses as JSON, text otherwise; names and passwords are always text. What is for this command
(``target``, ``json``, ``rejectUnauthorized``) does not travel. Secrets are neither printed nor part of any message.
"""

import base64
import json
import math
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any
from urllib.parse import unquote, urlsplit

import click
import httpx

from node.answers import printed_answer
from node.configuration_file import ConfigurationFile
from node.errors import UnknownCommand
from node.folder_archive import pack_folder
from node.parameters import BY_PATH
from node.paths import resolved_path
from node.process_commands import root_folder
from node.process_files import is_running

_DEFAULT_PORT = 9925
_ALIASES: Mapping[str, str] = {"deploy": "deploy_component", "package": "package_component"}
_DOMAIN_SOCKET = ("operationsApi", "network", "domainSocket")
_ABOUT_USERS = frozenset({"add_user", "alter_user", "drop_user", "create_authentication_tokens", "login"})
"""Operations with a ``username`` or ``password`` of their own: there the fields are not the caller's credentials."""
_ALWAYS_TEXT = frozenset({"username", "password", "target"})
_TIMEOUT = httpx.Timeout(connect=10.0, read=900.0, write=300.0, pool=10.0)
"""Long operations are jobs or keep the line; this only ends a wait for a node that is gone."""
_NOT_RUNNING = "logmesh must be running to perform this operation"
_NO_SOCKET = "No domain socket found, unable to perform this operation"


class ClientError(click.ClickException):
    """The operation was not performed; the message says why. Exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(self.message, err=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    verifies_certificate: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """``target`` None is the local node."""

    body: Mapping[str, Any] = field(repr=False)
    as_json: bool
    target: Target | None


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[KEY=VALUE]...")
@click.option("--root-path", metavar="DIR", help="The local node's root folder [ROOTPATH, ~/logmesh].")
@click.pass_context
def operation(context: click.Context, name: str, arguments: Sequence[str], root_path: str | None) -> None:
    """Send an operation and print its answer as YAML, with json=true as JSON.

    \b
    logmesh describe_all
    logmesh search_by_id table=dog ids='["1","2"]' get_attributes='["*"]'
    logmesh cluster_status target=node-b.example username=admin password=...
    """
    call = parse_call(name, arguments, os.environ)
    with _client(call.target, root_folder(root_path)) as client:
        context.exit(_perform(client, call))


def parse_call(name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Call:
    """The call that the command line means. Raises ``click.UsageError``."""
    fields = dict(_pair(argument, place) for place, argument in enumerate(arguments, start=1))
    as_json = fields.pop("json", False) is True
    verifies = fields.pop("rejectUnauthorized", True) is not False
    target_text = fields.pop("target", None) or environment.get("CLI_TARGET")
    operation_name = _ALIASES.get(name, name)
    target = None
    if target_text:
        target = _target(target_text, _taken_credentials(operation_name, fields), environment, verifies=verifies)
    if name == "deploy" and not {"package", "payload"} & fields.keys():
        fields = _with_current_folder(fields)
    return Call(body={**fields, "operation": operation_name}, as_json=as_json, target=target)


def _pair(argument: str, place: int) -> tuple[str, Any]:
    key, separator, text = argument.partition("=")
    if not separator or not key:
        raise click.UsageError(f"Argument {place} is not of the form key=value.")
    return key, text if key in _ALWAYS_TEXT else _value(text)


def _value(text: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, float) and not math.isfinite(value) else value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _taken_credentials(operation_name: str, fields: dict[str, Any]) -> tuple[str | None, str | None]:
    """``username=`` and ``password=``, taken out of the body unless the operation has such fields itself."""
    if operation_name in _ABOUT_USERS:
        return None, None
    return fields.pop("username", None), fields.pop("password", None)


def _target(
    text: str, credentials: tuple[str | None, str | None], environment: Mapping[str, str], *, verifies: bool
) -> Target:
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        host, port = parts.hostname, parts.port or _DEFAULT_PORT
    except ValueError:
        raise click.UsageError("target is not a URL or a host.") from None
    if not host or parts.scheme not in ("http", "https"):
        raise click.UsageError("target is not a URL or a host.")
    username, password = credentials
    return Target(
        url=f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}/",
        username=username or unquote(parts.username or "") or environment.get("CLI_TARGET_USERNAME"),
        password=password or unquote(parts.password or "") or environment.get("CLI_TARGET_PASSWORD"),
        verifies_certificate=verifies,
    )


def _with_current_folder(fields: Mapping[str, Any]) -> dict[str, Any]:
    folder = FilePath.cwd()
    try:
        payload = base64.b64encode(pack_folder(folder)).decode("ascii")
    except ValueError as error:
        raise ClientError(str(error)) from error
    return {"project": folder.name, **fields, "payload": payload}


def _client(target: Target | None, root: FilePath) -> httpx.Client:
    if target is not None:
        credentials = httpx.BasicAuth(target.username or "", target.password or "") if target.username else None
        return httpx.Client(base_url=target.url, auth=credentials, verify=target.verifies_certificate, timeout=_TIMEOUT)
    if not is_running(root):
        raise ClientError(_NOT_RUNNING)
    path = domain_socket(root)
    if path is None or not path.exists():
        raise ClientError(_NO_SOCKET)
    if not _is_listened_on(path):
        raise ClientError(_NOT_RUNNING)
    transport = httpx.HTTPTransport(uds=str(path))
    return httpx.Client(base_url="http://localhost/", transport=transport, timeout=_TIMEOUT, trust_env=False)


def _is_listened_on(path: FilePath) -> bool:
    """Looked at here because the HTTP library leaves its socket open when nobody listens."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def domain_socket(root: FilePath) -> FilePath | None:
    """Where the node of ``root`` listens for this command; None when it is configured not to."""
    file = ConfigurationFile.load(root)
    text = file.get(_DOMAIN_SOCKET) if file.has(_DOMAIN_SOCKET) else BY_PATH[_DOMAIN_SOCKET].default
    return None if text is None else resolved_path(str(text), root)


def _perform(client: httpx.Client, call: Call) -> int:
    """Send the call, print the answer, and give the exit code."""
    try:
        content = json.dumps(call.body, allow_nan=False).encode()
    except ValueError:
        raise click.UsageError("A value is not a number of JSON.") from None
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    try:
        with client.stream("POST", "", content=content, headers=headers) as response:
            return _print_answer(response, call)
    except httpx.ConnectError as error:
        raise ClientError(_connect_problem(call.target, error)) from error
    except httpx.HTTPError as error:
        raise ClientError(f"The node did not answer: {error}") from error


def _connect_problem(target: Target | None, error: httpx.ConnectError) -> str:
    if target is None:
        return _NOT_RUNNING
    hint = " (rejectUnauthorized=false accepts it)" if "CERTIFICATE_VERIFY_FAILED" in str(error) else ""
    return f"Cannot connect to {target.url}: {error}{hint}"


def _print_answer(response: httpx.Response, call: Call) -> int:
    if not response.headers.get("content-type", "").startswith("application/json"):
        for piece in response.iter_bytes():
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return int(response.is_error)
    response.read()
    answer = response.json()
    if response.is_error and answer == {"error": f"Operation '{call.body['operation']}' not found"}:
        raise UnknownCommand(str(call.body["operation"]))
    click.echo(printed_answer(answer, as_json=call.as_json), nl=False)
    return int(response.is_error)
