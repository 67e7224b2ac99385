"""``system_information``: the groups and their fields, measured on the machine that runs the test."""

import json
import os
import socket
import subprocess
import sys
import time
from typing import Any

import psutil
import pytest

from ops.host_facts import memory_facts, system_facts, time_facts
from ops.load_measurement import MEASURED_S, LoadMeasurement
from ops.process_facts import hide_secrets, process_facts
from ops.system_information import GROUPS, Sources, asked_groups, collect

FIELDS: dict[str, set[str]] = {
    "system": set("platform distro release codename kernel arch hostname fqdn node_version npm_version".split()),
    "time": set("current uptime timezone timezoneName".split()),
    "cpu": set(
        "manufacturer brand vendor speed speedMin speedMax cores physicalCores performanceCores efficiencyCores "
        "processors flags virtualization cpu_speed current_load".split()
    ),
    "memory": set(
        "total free used active available reclaimable swaptotal swapused swapfree writeback dirty rss heapTotal "
        "heapUsed external arrayBuffers".split()
    ),
    "disk": {"io", "read_write", "size"},
    "network": {"default_interface", "latency", "interfaces", "stats", "connections"},
    "harperdb_processes": {"core"},
}
PROCESS_FIELDS = set(
    "pid parentPid name cpu cpuu cpus mem priority memVsz memRss nice started state tty user command params path".split()
)
NO_CLUSTER = [group for group in GROUPS if group != "replication"]


def sources(**changes: Any) -> Sources:
    given: dict[str, Any] = {
        "table_size": lambda: [{"schema": "zoo", "table": "otter"}],
        "metrics": lambda: {"zoo": {"tables": {}}},
        "threads": lambda: [{"threadId": 1}],
    }
    return Sources(**(given | changes))


@pytest.fixture(scope="module")
def collected() -> dict[str, Any]:
    return collect(GROUPS, sources())


def fail(*_: object, **__: object) -> Any:
    raise RuntimeError("no otters here")


@pytest.mark.parametrize("attributes", [None, [], "cpu", {"cpu": True}, 5])
def test_what_is_no_list_of_names_asks_for_all_groups(attributes: Any) -> None:
    assert asked_groups(attributes) == GROUPS


@pytest.mark.parametrize(
    ("attributes", "groups"),
    [
        (["time", "system"], ("system", "time")),
        (["nothing", "time", 5, None, ["cpu"]], ("time",)),
        (["database_metrics"], ("metrics",)),
        (["nothing"], ()),
    ],
)
def test_a_list_asks_for_the_groups_that_it_names(attributes: list[Any], groups: tuple[str, ...]) -> None:
    assert asked_groups(attributes) == groups


def test_only_what_is_asked_for_is_collected() -> None:
    assert list(collect(["threads", "time"], sources())) == ["time", "threads"]


def test_groups_of_the_node_come_from_their_sources(collected: dict[str, Any]) -> None:
    assert collected["table_size"] == [{"schema": "zoo", "table": "otter"}]
    assert collected["metrics"] == {"zoo": {"tables": {}}}
    assert collected["threads"] == [{"threadId": 1}]


def test_the_replication_group_is_absent_where_the_node_takes_no_part(collected: dict[str, Any]) -> None:
    assert list(collected) == NO_CLUSTER


def test_the_replication_group_is_the_answer_of_its_source() -> None:
    assert collect(["replication"], sources(replication=lambda: {"node_name": "n1"})) == {
        "replication": {"node_name": "n1"}
    }


@pytest.mark.parametrize("group", list(FIELDS))
def test_a_group_has_its_fields(collected: dict[str, Any], group: str) -> None:
    assert set(collected[group]) == FIELDS[group]


def test_everything_can_be_written_as_json(collected: dict[str, Any]) -> None:
    assert json.loads(json.dumps(collected, allow_nan=False)) == collected


@pytest.mark.parametrize(
    "breaks",
    [
        "ops.host_facts.psutil.virtual_memory",
        "ops.host_facts.platform.machine",
        "ops.disk_and_network_facts.psutil.net_if_addrs",
    ],
)
def test_a_group_that_fails_is_empty_and_the_others_are_not(
    breaks: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(breaks, fail)
        found = collect(["system", "memory", "network"], sources())
    assert sorted(value == {} for value in found.values()) == [False, False, True]
    assert "no otters here" in caplog.text


def test_a_source_that_fails_leaves_its_group_empty() -> None:
    assert collect(["table_size", "threads"], sources(table_size=fail)) == {
        "table_size": {},
        "threads": [{"threadId": 1}],
    }


def test_no_outside_host_is_contacted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("getaddrinfo", "gethostbyname", "gethostbyaddr", "getfqdn", "create_connection"):
        monkeypatch.setattr(socket, name, fail)
    monkeypatch.setattr(socket.socket, "connect", fail)
    monkeypatch.setattr(socket.socket, "sendto", fail)
    found = collect(NO_CLUSTER, sources())
    assert [group for group, value in found.items() if value == {}] == []
    assert found["network"]["latency"] == {}


def test_the_disk_group_is_empty_when_it_is_turned_off() -> None:
    assert collect(["disk"], sources(collect_disk=False)) == {"disk": {}}


def test_the_network_group_has_a_fixed_form_when_it_is_turned_off() -> None:
    assert collect(["network"], sources(collect_network=False)) == {
        "network": {"default_interface": None, "latency": {}, "interfaces": [], "stats": [], "connections": []}
    }


def test_the_machine_is_this_one() -> None:
    facts = system_facts()
    assert facts["hostname"] == socket.gethostname()
    assert facts["platform"] == sys.platform
    assert facts["node_version"] == ".".join(map(str, sys.version_info[:3]))


def test_the_time_is_now_in_whole_milliseconds() -> None:
    before_ms = int(time.time() * 1000)
    facts = time_facts()
    assert before_ms <= facts["current"] <= int(time.time() * 1000)
    assert facts["uptime"] > 0


@pytest.mark.parametrize(("zone", "offset"), [("UTC0", "UTC+0000"), ("XYZ-5:30", "UTC+0530"), ("XYZ3", "UTC-0300")])
def test_the_time_zone_is_an_offset(zone: str, offset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        with monkeypatch.context() as patch:
            patch.setenv("TZ", zone)
            time.tzset()
            assert (time_facts()["timezone"], time_facts()["timezoneName"]) == (offset, zone)
    finally:
        time.tzset()


def test_memory_adds_up() -> None:
    facts = memory_facts()
    assert facts["used"] + facts["free"] == facts["total"]
    assert facts["active"] + facts["available"] == facts["total"]
    assert 0 < facts["rss"] < facts["total"]


def test_the_load_is_measured_over_a_short_time_only() -> None:
    began_s = time.monotonic()
    measurement = LoadMeasurement()
    measurement.cpu_load()
    measurement.disk_bytes()
    assert MEASURED_S <= time.monotonic() - began_s < MEASURED_S + 2


def test_a_busy_processor_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four readings that the kernel could have given: two processors, one of them busy for three of four ticks."""
    ticks = psutil.cpu_times(percpu=False)._replace(**dict.fromkeys(psutil.cpu_times()._fields, 10.0))
    readings = iter([[ticks, ticks], [ticks._replace(user=12.0, system=11.0, idle=11.0), ticks._replace(idle=14.0)]])
    monkeypatch.setattr("ops.load_measurement.psutil.cpu_times", lambda **_: next(readings))
    monkeypatch.setattr("ops.load_measurement.MEASURED_S", 0.0)
    load = LoadMeasurement().cpu_load()
    assert [cpu["load"] for cpu in load["cpus"]] == [75.0, 0.0]
    assert (load["currentLoad"], load["currentLoadUser"], load["currentLoadSystem"]) == (37.5, 25.0, 12.5)
    assert load["currentLoadIdle"] == 62.5


def test_counters_that_run_back_are_no_negative_load(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = psutil.cpu_times(percpu=False)._replace(**dict.fromkeys(psutil.cpu_times()._fields, 10.0))
    readings = iter([[ticks], [ticks._replace(idle=9.0)]])
    monkeypatch.setattr("ops.load_measurement.psutil.cpu_times", lambda **_: next(readings))
    monkeypatch.setattr("ops.load_measurement.MEASURED_S", 0.0)
    assert set(LoadMeasurement().cpu_load()["cpus"][0].values()) == {0.0}


def test_a_machine_that_hides_its_disk_counters_still_tells_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.load_measurement.psutil.disk_io_counters", fail)
    disk = collect(["disk"], sources())["disk"]
    assert (disk["io"], disk["read_write"]) == ({}, {})
    assert all(size["size"] > 0 for size in disk["size"])


def test_the_disk_that_holds_the_root_is_listed(collected: dict[str, Any]) -> None:
    root = next(size for size in collected["disk"]["size"] if size["mount"] == "/")
    found = os.statvfs("/")
    assert root["size"] == found.f_blocks * found.f_frsize


def test_the_loopback_interface_is_described(collected: dict[str, Any]) -> None:
    loopback = next(found for found in collected["network"]["interfaces"] if found["ip4"] == "127.0.0.1")
    assert (loopback["type"], loopback["ip4subnet"], loopback["default"]) == ("loopback", "255.0.0.0", False)
    assert loopback["iface"] in {found["iface"] for found in collected["network"]["stats"]}


def test_an_open_listener_is_among_the_connections() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connections = collect(["network"], sources())["network"]["connections"]
        port = str(listener.getsockname()[1])
    expected = {"protocol": "tcp", "localAddress": "127.0.0.1", "localPort": port, "state": "LISTEN"}
    assert any(expected.items() <= found.items() for found in connections)


def test_this_process_is_described() -> None:
    (process,) = process_facts([os.getpid()])["core"]
    assert set(process) == PROCESS_FIELDS
    assert (process["pid"], process["parentPid"]) == (os.getpid(), os.getppid())
    assert process["memRss"] > 1_000_000
    time.strptime(process["started"], "%Y-%m-%d %H:%M:%S")


def test_a_process_that_has_ended_is_left_out() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert process_facts([ended.pid]) == {"core": []}


def test_the_nodes_processes_are_those_that_the_source_names() -> None:
    found = collect(["harperdb_processes"], sources(process_ids=lambda: (os.getpid(), os.getppid())))
    assert [process["pid"] for process in found["harperdb_processes"]["core"]] == [os.getpid(), os.getppid()]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["run", "--HDB_ADMIN_PASSWORD", "word"], ["run", "--HDB_ADMIN_PASSWORD", "***"]),
        (["--HDB_ADMIN_PASSWORD=a=b"], ["--HDB_ADMIN_PASSWORD=***"]),
        (["password=word", "x=1"], ["password=***", "x=1"]),
        (["--set", "license.secret=word"], ["--set", "license.secret=***"]),
        (["run", "--mode", "dev"], ["run", "--mode", "dev"]),
        (["--PASSWORD"], ["--PASSWORD"]),
    ],
)
def test_secrets_on_a_command_line_are_hidden(arguments: list[str], shown: list[str]) -> None:
    assert hide_secrets(arguments) == shown


def test_the_command_line_in_the_answer_is_the_one_without_secrets() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", "--HDB_ADMIN_PASSWORD", "tarka"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        child.stdout.readline()  # until then it may still be the copy of this process
        (process,) = process_facts([child.pid])["core"]
    assert "tarka" not in json.dumps(process)
    assert process["params"].endswith("--HDB_ADMIN_PASSWORD ***")
