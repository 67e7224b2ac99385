"""What a node tells about its machine and itself: groups of facts, statuses, its log, and what the log never holds."""

import base64
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node_process import NodeProcess
from tests.scenarios.asking import ask, basic, bearer, send, with_keys_of

LEVELS = ("trace", "debug", "info", "warn", "error", "fatal", "notify")
LINE = re.compile(
    r"(?P<timestamp>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) \[(?P<thread>main|http|job)/\d+\] "
    rf"\[(?P<level>{'|'.join(LEVELS)})\](?P<tags>( \[[^\] ]+\])*): (?P<message>.*)"
)
WAIT_S = 10.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    root = tmp_path_factory.mktemp("system") / "root"
    options = [
        *("--set", "logging.level=trace"),
        *("--set", "logging.console=true"),
        *("--set", "logging.stdStreams=true"),
        *("--set", "logging.auditAuthEvents.logFailed=true"),
        *("--set", "logging.auditAuthEvents.logSuccessful=true"),
        *("--set", "authentication.hashFunction=sha256"),
    ]
    with NodeProcess(root, options=options) as running:
        running.post(operation="create_table", database="zoo", table="otter", primary_key="id")
        yield running
        assert running.stop() == 0


def log_text(node: NodeProcess) -> str:
    return (node.root / "log" / "hdb.log").read_text()


def log_lines(node: NodeProcess) -> list[dict[str, str]]:
    matches = [LINE.fullmatch(line) for line in log_text(node).splitlines()]
    return [match.groupdict() for match in matches if match is not None]


def wait_for_log(node: NodeProcess, text: str) -> None:
    """Lines are written by a thread of their own, shortly after what they tell."""
    give_up_at = time.monotonic() + WAIT_S
    while text not in log_text(node):
        assert time.monotonic() < give_up_at, f"{text!r} does not appear in the log"


# system_information

GROUPS: dict[str, str] = {
    "system": "platform distro release codename kernel arch hostname fqdn node_version npm_version",
    "time": "current uptime timezone timezoneName",
    "cpu": "manufacturer brand vendor speed speedMin speedMax cores physicalCores performanceCores efficiencyCores "
    "processors flags virtualization cpu_speed current_load",
    "memory": "total free used active available reclaimable swaptotal swapused swapfree writeback dirty rss heapTotal "
    "heapUsed external arrayBuffers",
    "disk": "io read_write size",
    "network": "default_interface latency interfaces stats connections",
    "harperdb_processes": "core",
}


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_of_facts_has_its_fields(node: NodeProcess, group: str) -> None:
    answer = node.post(operation="system_information", attributes=[group])
    assert answer.keys() == {group}
    assert answer[group].keys() == set(GROUPS[group].split())


def test_facts_within_the_groups_have_their_fields(node: NodeProcess) -> None:
    facts = node.post(operation="system_information")
    loads = "Load LoadUser LoadSystem LoadNice LoadIdle LoadIrq LoadSteal LoadGuest".split()
    current = facts["cpu"]["current_load"]
    assert current.keys() == {"avgLoad", "cpus", *(f"current{name}" for name in loads)}
    assert current["cpus"][0].keys() == {name[0].lower() + name[1:] for name in loads}
    assert facts["cpu"]["cpu_speed"].keys() == {"min", "max", "avg", "cores"}
    waits = [f"{kind}{what}" for what in ("IO", "WaitTime", "WaitPercent") for kind in "rwt"]
    assert facts["disk"]["io"].keys() == set(waits)
    assert facts["disk"]["read_write"].keys() == set("rx wx tx rx_sec wx_sec tx_sec ms".split())
    assert facts["disk"]["size"][0].keys() == set("fs type size used available use mount rw".split())
    interface = "iface ifaceName default ip4 ip4subnet ip6 ip6subnet mac operstate type duplex speed"
    assert facts["network"]["interfaces"][0].keys() == set(interface.split())
    stat = "iface operstate rx_bytes rx_dropped rx_errors tx_bytes tx_dropped tx_errors"
    assert facts["network"]["stats"][0].keys() == set(stat.split())
    assert facts["network"]["latency"] == {}
    process = (
        "pid parentPid name cpu cpuu cpus mem priority memVsz memRss nice started state tty user command params path"
    )
    (own,) = facts["harperdb_processes"]["core"]
    assert own.keys() == set(process.split())
    assert own["pid"] == node.pid
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", own["started"])
    thread = "threadId name heapTotal heapUsed externalMemory arrayBuffers sinceLastUpdate idle active utilization"
    assert facts["threads"][0].keys() == set(thread.split())
    assert abs(facts["time"]["current"] - time.time() * 1000) < 60_000
    assert re.fullmatch(r"UTC[+-]\d{4}", facts["time"]["timezone"])


def test_tables_and_databases_are_measured(node: NodeProcess) -> None:
    node.post(operation="upsert", database="zoo", table="otter", records=[{"id": 1}, {"id": 2}])
    facts = node.post(operation="system_information", attributes=["table_size", "metrics", "database_metrics"])
    (size,) = [row for row in facts["table_size"] if (row["schema"], row["table"]) == ("zoo", "otter")]
    fields = "schema table table_size record_count transaction_log_size transaction_log_record_count"
    assert size.keys() == set(fields.split())
    assert size["record_count"] == 2
    assert facts["metrics"].keys() == {"zoo"}
    zoo = facts["metrics"]["zoo"]
    pages = {"treeDepth", "treeBranchPageCount", "treeLeafPageCount", "entryCount", "overflowPages"}
    assert zoo["tables"]["otter"].keys() == pages
    assert zoo["tables"]["otter"]["entryCount"] == 2
    assert zoo.keys() >= pages | {"pageSize", "mapSize", "lastPageNumber", "lastTxnId", "maxReaders", "numReaders"}


@pytest.mark.parametrize("attributes", [None, [], "cpu"])
def test_no_list_of_groups_is_all_groups(node: NodeProcess, attributes: Any) -> None:
    answer = node.post(operation="system_information", attributes=attributes)
    assert answer.keys() == {*GROUPS, "table_size", "metrics", "threads"}


def test_unknown_groups_are_ignored(node: NodeProcess) -> None:
    assert node.post(operation="system_information", attributes=["time", "weather"]).keys() == {"time"}


# Statuses


def test_a_status_is_set_shown_and_cleared(node: NodeProcess) -> None:
    assert node.post(operation="set_status", status="active") == {}
    assert node.post(operation="set_status", id="availability", status="Available") == {}
    shown = node.post(operation="get_status", id="primary")
    assert (shown["id"], shown["status"]) == ("primary", "active")
    assert shown.keys() == {"id", "status", "__createdtime__", "__updatedtime__"}
    every = node.post(operation="get_status")
    assert every.keys() == {"systemStatus", "componentStatus", "restartRequired"}
    assert [status["id"] for status in every["systemStatus"]] == ["availability", "primary"]
    assert every["restartRequired"] is False
    for fields in ({"id": "primary"}, {"id": "availability"}, {"id": "unknown"}, {}):
        assert node.post(operation="clear_status", **fields) == {"message": True}
    assert node.post(operation="get_status", id="primary") == {}
    assert node.post(operation="get_status", id="unknown") == {}
    assert node.post(operation="get_status")["systemStatus"] == []


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "'status' is required"),
        ({"status": 5}, "'status' must be a string"),
        ({"status": ""}, "'status' is not allowed to be empty"),
        ({"status": "x" * 513}, "'status' length must be less than or equal to 512 characters long"),
        ({"status": "x", "id": "other"}, "'id' must be one of [primary, maintenance, availability]"),
        (
            {"status": "x", "id": "availability"},
            'Status "availability" only accepts these values: Available, Unavailable',
        ),
    ],
)
def test_a_status_that_is_none(node: NodeProcess, fields: dict[str, Any], error: str) -> None:
    assert ask(node, "set_status", **fields) == (400, {"error": error})


# The log


def test_every_line_of_the_log_has_its_form(node: NodeProcess) -> None:
    ask(node, "nope")
    node.post(operation="get_status")
    lines = log_text(node).splitlines()
    assert all(LINE.fullmatch(line) for line in lines)
    messages = [(line["level"], line["message"]) for line in log_lines(node)]
    assert ("notify", "logmesh successfully started.") in messages
    streams = [line for line in node.output if "logmesh successfully started." in line]
    assert streams == ["[main/0] [notify]: logmesh successfully started.\n"]


def test_jobs_are_named_in_the_log(node: NodeProcess) -> None:
    started = node.post(operation="delete_audit_logs_before", schema="zoo", table="otter", timestamp=5)
    wait_for_log(node, f"[notify]: Successfully completed job: {started['job_id']}")
    lines = [line for line in log_lines(node) if started["job_id"] in line["message"] and line["level"] == "notify"]
    assert [(line["thread"], line["message"]) for line in lines] == [
        ("job", f"Starting job: {started['job_id']}"),
        ("job", f"Successfully completed job: {started['job_id']}"),
    ]


def test_requests_are_logged_but_not_those_for_the_log(node: NodeProcess) -> None:
    node.post(operation="get_status", id="marked-request", note="y" * 5000)
    node.post(operation="read_log", filter="marked-reader")
    wait_for_log(node, "marked-request")
    (line,) = [line for line in log_lines(node) if "marked-request" in line["message"]]
    assert (line["level"], line["tags"]) == ("info", " [operation]")
    assert "get_status" in line["message"]
    assert "y" * 900 in line["message"]
    assert "y" * 1100 not in line["message"]
    assert "hdb_user" not in line["message"]
    assert not any("marked-reader" in line["message"] for line in log_lines(node))


def auth_events(node: NodeProcess) -> list[tuple[str, dict[str, Any]]]:
    lines = [line for line in log_lines(node) if line["tags"] == " [auth-event]"]
    return [(line["level"], json.loads(line["message"])) for line in lines]


def test_logins_are_logged_when_asked_for(node: NodeProcess) -> None:
    forwarded = {"x-forwarded-for": "203.0.113.9", "origin": "https://studio.example"}
    for _ in range(2):
        assert send(node, {"operation": "user_info"}, basic("stranger", "guess-1") | forwarded).status_code == 401
    wait_for_log(node, "stranger")
    failed = [event for event in auth_events(node) if event[1].get("username") == "stranger"]
    assert failed == [
        (
            "error",
            {
                "username": "stranger",
                "status": "failure",
                "type": "authentication",
                "originating_ip": "203.0.113.9",
                "request_method": "POST",
                "path": "/",
                "auth_strategy": "Basic",
                "origin": "https://studio.example",
            },
        )
    ]
    succeeded = [event for event in auth_events(node) if event[1]["status"] == "success"]
    assert succeeded
    assert all(level == "info" and event["username"] == "admin" for level, event in succeeded)


# read_log


def test_read_log_shows_entries_as_they_stand_in_the_file(node: NodeProcess) -> None:
    entries = node.post(operation="read_log", limit=3)
    first = log_lines(node)[:3]
    assert [entry.keys() for entry in entries] == [{"timestamp", "thread", "level", "tags", "message"}] * 3
    assert [(entry["timestamp"], entry["level"], entry["message"]) for entry in entries] == [
        (line["timestamp"], line["level"], line["message"]) for line in first
    ]


def test_read_log_filters(node: NodeProcess) -> None:
    read: dict[str, Any] = {"operation": "read_log"}
    everything = node.post(**read, limit=100_000)
    for level in ("notify", "error", "info"):
        of_level = node.post(**read, level=level, limit=100_000)
        assert of_level
        assert {entry["level"] for entry in of_level} == {level}
    assert node.post(**read, level=None, limit=5) == everything[:5]
    assert node.post(**read, start=2, limit=3) == everything[2:5]
    assert node.post(**read, **{"from": "2000-01-01", "to": "2000-01-02"}) == []
    moment = everything[3]["timestamp"]
    at_moment = node.post(**read, **{"from": moment, "to": moment})
    assert at_moment == [entry for entry in everything if entry["timestamp"] == moment]
    assert node.post(**read, **{"from": moment, "until": moment}) == at_moment
    assert node.post(**read, to=moment, until="2000-01-01", limit=1) == everything[:1]
    started = node.post(**read, filter="successfully started")
    assert [entry["message"] for entry in started] == ["logmesh successfully started."]
    assert node.post(**read, filter="Successfully Started") == []


def test_read_log_newest_first_is_exactly_the_end_of_the_log(node: NodeProcess) -> None:
    newest = node.post(operation="read_log", order="desc", limit=5)
    stamps = [entry["timestamp"] for entry in newest]
    assert len(newest) == 5
    assert stamps == sorted(stamps, reverse=True)
    seen = [line["message"] for line in log_lines(node)]
    positions = [len(seen) - 1 - seen[::-1].index(entry["message"]) for entry in newest]
    assert max(positions) - min(positions) < 10
    assert node.post(operation="read_log", order="asc", limit=2) == node.post(operation="read_log", limit=2)


def test_read_log_over_all_nodes_names_the_node(node: NodeProcess) -> None:
    entries = node.post(operation="read_log", replicated=True, limit=2)
    name = node.post(operation="get_configuration")["node"]["hostname"]
    assert [entry["node"] for entry in entries] == [name, name]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"level": "loud"}, "'level' must be one of [notify, fatal, error, warn, info, debug, trace]"),
        ({"order": "up"}, "'order' must be one of [asc, desc]"),
        ({"limit": 0}, "'limit' must be greater than or equal to 1"),
        ({"limit": "x"}, "'limit' must be a number"),
        ({"start": -1}, "'start' must be greater than or equal to 0"),
        ({"from": "bad"}, "'from' date 'bad' is invalid."),
        ({"to": "bad"}, "'to' date 'bad' is invalid."),
        ({"until": "bad"}, "'until' date 'bad' is invalid."),
        ({"log_name": "x"}, "'log_name' 'x' is invalid."),
        ({"log_name": "../keys/.jwtPass"}, "'log_name' '../keys/.jwtPass' is invalid."),
        ({"log_name": "install.log"}, "'log_name' 'install.log' does not exist."),
    ],
)
def test_a_log_that_cannot_be_read(node: NodeProcess, fields: dict[str, Any], error: str) -> None:
    assert ask(node, "read_log", **fields) == (400, {"error": error})


# Secrets


def secret_carrying_bodies(secret: str) -> list[dict[str, Any]]:
    """Every way in which clients send a secret, known operations and unknown ones, valid and not."""
    user = {"username": "carrier", "password": secret}
    system: dict[str, Any] = {"database": "system", "table": "hdb_user"}
    s3 = {"aws_secret_access_key": secret}
    return [
        {"operation": "add_user", **user},
        {"operation": "add_user", **user, "role": "super_user", "active": True},
        {"operation": "alter_user", **user},
        {"operation": "login", **user},
        {"operation": "login", "username": "admin", "password": [secret]},
        {"operation": "create_authentication_tokens", **user},
        {"operation": "create_authentication_tokens", "username": "admin", "password": {"nested": secret}},
        {"operation": "refresh_operation_token", "refresh_token": secret},
        {"operation": "drop_user", **user},
        {"operation": "insert", **system, "records": [{"username": "x", "password": secret, "hash": secret}]},
        {"operation": "update", "schema": "system", "table": "hdb_user", "records": [{"password": secret}]},
        {"operation": "upsert", "database": "system", "records": [{"password": secret}]},
        {"operation": "sql", "sql": f"update system.hdb_user set password = '{secret}'"},
        {"operation": "search_by_value", **system, "attribute": "username", "value": "*", "password": secret},
        {"operation": "describe_all", "hdbAuthHeader": f"Basic {secret}", "authorization": secret},
        {"operation": "add_certificate", "certificate": "x", "private_key": secret},
        {"operation": "add_ssh_key", "name": "k", "key": secret},
        {"operation": "set_license", "license": secret, "key": secret},
        {"operation": "export_to_s3", "s3": s3, "search_operation": {"operation": "sql", "sql": "select 1"}},
        {"operation": "import_from_s3", "database": "zoo", "table": "otter", "s3": s3},
        {"operation": "csv_url_load", "csv_url": "http://x", "passthrough_headers": {"authorization": secret}},
        {"operation": "csv_data_load", "database": "zoo", "table": "otter", "data": secret},
        {"operation": "deploy_component", "payload": secret},
        {"operation": "add_node", "hostname": "x", "authorization": {"username": "a", "password": secret}},
        {"operation": "nope", "password": secret, "nested": {"password": secret, "list": [{"password": secret}]}},
        {"operation": {"password": secret}},
        {"password": secret},
    ]


def test_no_secret_reaches_the_log_or_any_other_file(node: NodeProcess) -> None:
    secret = "Carried-Secret-7f3a"
    for body in secret_carrying_bodies(secret):
        send(node, body, basic(node.username, node.password))
        send(node, body)
    refused = [basic("admin", secret), bearer(secret), {"authorization": f"Odd {secret}"}]
    for headers in (*refused, {"cookie": f"x-hdb-session={secret}"}):
        send(node, {"operation": "user_info"}, headers)
    assert node.request(f'{{"operation": "login", "password": "{secret}", '.encode()).status_code == 400
    node.request({"operation": "login", "username": "admin", "password": node.password})
    tokens = node.post(operation="create_authentication_tokens")
    send(node, {"operation": "user_info"}, bearer(tokens["operation_token"]))
    ask(node, "refresh_operation_token", refresh_token=tokens["refresh_token"])
    node.post(operation="get_status", note="the last line")
    wait_for_log(node, "the last line")
    secrets = [secret, node.password, *tokens.values()]
    secrets += [base64.b64encode(f"admin:{value}".encode()).decode() for value in (secret, node.password)]
    log = log_text(node)
    assert '"operation":"add_user","username":"carrier"' in log, "the requests are logged"
    for value in secrets:
        assert value not in log, [line for line in log.splitlines() if value in line]
        assert value not in "".join(node.output)
    for file in (file for file in node.root.rglob("*") if file.is_file()):
        content = file.read_bytes()
        for value in secrets[1:]:
            assert value.encode() not in content, file


def test_a_password_of_the_command_line_is_not_shown_among_the_processes(node: NodeProcess, tmp_path: Path) -> None:
    root = with_keys_of(node, tmp_path / "root")
    options = ["--HDB_ADMIN_PASSWORD=Command-Line-1", "--HDB_ADMIN_USERNAME", "boss"]
    with NodeProcess(root, options=options, password=None) as other:
        response = other.request({"operation": "system_information"}, auth=("boss", "Command-Line-1"))
        assert response.status_code == 200
        assert "harperdb_processes" in response.json()
        assert "Command-Line-1" not in response.text
        assert "Command-Line-1" not in (root / "logmesh.yaml").read_text()


def test_a_restart_can_be_left_to_a_supervisor_and_clears_statuses(
    node: NodeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARPER_EXIT_ON_RESTART", "true")
    with NodeProcess(with_keys_of(node, tmp_path / "root")) as other:
        other.post(operation="set_status", status="active")
        response = other.request({"operation": "restart"})
        assert response.json() == {"message": "Restarting HarperDB. This may take up to 60 seconds."}
        give_up_at = time.monotonic() + WAIT_S
        while os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            assert time.monotonic() < give_up_at, "it does not end"
        assert other.stop() == 0
        other.start()
        assert other.post(operation="get_status", id="primary") == {}
