"""The table against the reference: the names here were written down by hand from it, not derived from the code."""

import pytest

from node.flat_names import find_parameter
from node.parameter import MODES, Kind
from node.parameter_checks import value_problem
from node.parameters import BY_PATH, PARAMETERS, SECTIONS

DOCUMENTED = """
rootPath componentsRoot node.hostname node.mode node.url ignoreScripts serialization.bigInt

operationsApi.network.port operationsApi.network.securePort operationsApi.network.domainSocket operationsApi.network.cors
operationsApi.network.corsAccessList operationsApi.network.timeout operationsApi.network.keepAliveTimeout
operationsApi.network.headersTimeout operationsApi.network.http2 operationsApi.network.mtls operationsApi.network.fastLane
operationsApi.tls operationsApi.tls.certificate operationsApi.tls.privateKey operationsApi.tls.certificateAuthority
operationsApi.sysInfo.disk operationsApi.sysInfo.network operationsApi.metrics

http.port http.securePort http.cors http.corsAccessList http.corsAccessControlAllowHeaders http.timeout
http.keepAliveTimeout
http.headersTimeout http.maxHeaderSize http.maxParamLength http.requestQueueLimit http.compressionThreshold http.http2
http.sessionAffinity http.threadRange http.mtls http.mtls.user http.mtls.required http.mtls.certificateAuthority
http.mtls.certificateVerification http.mtls.certificateVerification.failureMode http.mtls.certificateVerification.crl
http.mtls.certificateVerification.ocsp http.logging http.logging.level http.logging.path http.logging.timing
http.logging.headers http.logging.id

threads.count threads.debug threads.maxHeapMemory

authentication.authorizeLocal authentication.cacheTTL authentication.enableSessions authentication.cookie.domains
authentication.cookie.expires authentication.operationTokenTimeout authentication.refreshTokenTimeout
authentication.hashFunction

analytics.aggregatePeriod analytics.replicate localStudio.enabled

logging.level logging.file logging.stdStreams logging.root logging.path logging.console logging.colors logging.auditLog
logging.auditRetention logging.auditAuthEvents.logFailed logging.auditAuthEvents.logSuccessful logging.rotation.enabled
logging.rotation.compress logging.rotation.interval logging.rotation.maxSize logging.rotation.path
logging.rotation.retention logging.external logging.external.level logging.external.path logging.external.tag
mqtt.logging authentication.logging replication.logging tls.logging storage.logging analytics.logging
storage.logging.path storage.logging.root storage.logging.level storage.logging.tag storage.logging.stdStreams

mqtt.network.port mqtt.network.securePort mqtt.network.mtls mqtt.webSocket mqtt.requireAuthentication mqtt.emptyDelete

replication.hostname replication.url replication.port replication.securePort replication.routes replication.databases
replication.enableRootCAs replication.copyTablesToCatchUp replication.blobTimeout replication.failOver replication.shard
replication.mtls replication.mtls.certificateVerification replication.replicateTo replication.pingInterval
replication.pingTimeout replication.maxPayload replication.receiveMemory replication.confirmationTimeout
replication.maxClockSkew replication.markInterval replication.join replication.joinCa

storage.writeAsync storage.path storage.blobPaths storage.mapSize storage.audit.path storage.caching storage.compression
storage.compactOnStart storage.compactOnStartKeepBackup storage.noReadAhead storage.prefetchWrites storage.overlappingSync
storage.pageSize storage.maxTransactionQueueTime storage.maxFreeSpaceToLoad storage.maxFreeSpaceToRetain
storage.reclamation.threshold storage.reclamation.interval storage.reclamation.evictionFactor

databases tls tls.certificate tls.privateKey tls.certificateAuthority tls.host tls.ciphers

license.region license.mode license.publicKey license.publicKeyFile compatibilityVersion sql.timeout sql.maxMemory
bulk.filePaths bulk.allowLocalUrls components.allowCode components.limits components.allowInsecureDownloads
components.allowShell
""".split()

WITHOUT_EFFECT = {
    "ignoreScripts",
    "http.sessionAffinity",
    "http.threadRange",
    "threads.debug",
    "threads.maxHeapMemory",
    "storage.audit.path",
    "storage.caching",
    "storage.compression",
    "storage.prefetchWrites",
    "storage.overlappingSync",
    "storage.pageSize",
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_documented_parameter_is_in_the_table(name: str) -> None:
    assert tuple(name.split(".")) in BY_PATH


def test_no_path_stands_in_the_table_twice() -> None:
    assert len(BY_PATH) == len(PARAMETERS)


def test_the_parameters_without_effect_are_those_of_the_reference() -> None:
    assert {parameter.dotted for parameter in PARAMETERS if not parameter.has_effect} == WITHOUT_EFFECT


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.dotted)
def test_every_default_passes_its_own_check(parameter, tmp_path) -> None:
    for mode in MODES:
        assert value_problem(parameter, parameter.default_for(mode), tmp_path) is None


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.dotted)
def test_every_parameter_is_described_and_found_by_its_upper_case_name(parameter) -> None:
    assert parameter.sentence and not parameter.sentence.endswith(".")
    assert find_parameter(parameter.flat.upper()) is parameter


DEFAULTS_PER_MODE = {
    "operationsApi.network.port": (None, 9925),
    "operationsApi.network.securePort": (9925, 9943),
    "http.port": (None, 9926),
    "http.securePort": (9926, 9927),
    "mqtt.network.port": (None, 1883),
    "mqtt.network.securePort": (8883, 8883),
    "replication.securePort": (9933, 9933),
    "authentication.authorizeLocal": (False, True),
    "http.cors": (False, True),
    "http.corsAccessList": ([None], ["*"]),
    "logging.level": ("warn", "info"),
    "logging.stdStreams": (False, True),
    "localStudio.enabled": (False, True),
    "bulk.allowLocalUrls": (False, True),
}


@pytest.mark.parametrize(("name", "expected"), DEFAULTS_PER_MODE.items(), ids=str)
def test_the_defaults_of_each_mode(name: str, expected: tuple[object, object]) -> None:
    parameter = BY_PATH[tuple(name.split("."))]
    assert (parameter.default_for("prod"), parameter.default_for("dev")) == expected


def test_the_default_of_threads_and_host_name_comes_from_the_machine_in_prod_only() -> None:
    threads, host = BY_PATH["threads", "count"], BY_PATH["node", "hostname"]
    assert threads.default_for("prod") >= 1
    assert threads.default_for("dev") == 1
    assert host.default_for("prod")
    assert host.default_for("dev") == "localhost"


def test_a_default_is_a_fresh_copy_each_time() -> None:
    parameter = BY_PATH["http", "corsAccessList"]
    parameter.default_for("dev").append("changed")
    assert parameter.default_for("dev") == ["*"]


def test_every_port_is_one_that_a_listener_can_have() -> None:
    ports = {parameter.dotted for parameter in PARAMETERS if Kind.PORT in parameter.kinds}
    assert len(ports) == 8
    assert all(name.rpartition(".")[2] in ("port", "securePort") for name in ports)


def test_component_names_do_not_collide_with_sections() -> None:
    assert {"http", "operationsApi", "rootPath", "storage", "authentication", "databases"} <= SECTIONS
