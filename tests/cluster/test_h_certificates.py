"""Certificates: group H of the reliability scenarios."""

from collections.abc import Callable, Iterator

import pytest
import trustme

from tests.cluster.cluster import Cluster, members, running_cluster
from tests.cluster.comparison import contents, wait_until, wait_until_equal
from tests.cluster.intruder import false_node, key_of, knock, made, own_certificate

NewCluster = Callable[..., Cluster]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("h"), "abc") as running:
        yield running


def test_h3_a_revoked_serial_is_refused_by_every_member(new_cluster: NewCluster) -> None:
    """H3: serial revoked on one member, sessions open. Closed on all members within seconds; no reconnect."""
    cluster = new_cluster("abc")
    a, b, c = cluster.form()
    cluster.make_tables("h3")
    cluster.wait_until_linked()
    certificate = own_certificate(c)
    key = key_of(c.root, certificate)
    assert [knock(node, certificate["certificate"], key)[0] for node in (a, b)] == [101, 101]
    serial = certificate["details"]["serial_number"]
    answer = a.post(operation="update_node", hostname="c", revoked_certificates=[serial])
    assert answer == {"message": "Successfully updated 'c'"}
    wait_until(
        lambda: not any(cluster.network.open_connections(*pair) for pair in ("ac", "ca", "bc", "cb")),
        "all are closed",
        within_s=15,
    )
    wait_until(lambda: knock(b, certificate["certificate"], key)[0] != 101, "b has heard of it")
    assert knock(a, certificate["certificate"], key)[0] != 101
    c.upsert("h3", {"id": "from c"})
    a.upsert("h3", {"id": "from a"})
    wait_until_equal([a, b], "h3", count=1)
    assert set(contents(c, "h3") or {}) == {"from c"}
    assert cluster.join("c", "a", force_signing=True) == (200, {"message": "Successfully added 'a' to cluster"})
    wait_until_equal([a, b, c], "h3", count=2)
    assert own_certificate(c)["details"]["serial_number"] != serial


def test_h4_a_server_certificate_that_was_swapped_after_the_join_is_refused(cluster: Cluster) -> None:
    """H4: verify_tls: false join through a proxy that later swaps the server certificate. Join accepted once, data
    connections refused.
    """
    a, b, c = cluster
    cluster.make_tables("h4")
    heard_before = len(b.log())
    with false_node("a") as (address, heard):
        real = cluster.network.reroute("a", address)
        cluster.network.reset("a", "b")
        wait_until(lambda: "its certificate is refused here" in b.log()[heard_before:], "b refuses it and says why")
        assert not heard, "something was said to a node that could not prove who it is"
        cluster.network.reroute("a", real)
    b.upsert("h4", {"id": 1})
    wait_until_equal([a, b, c], "h4", count=1)


def test_h5_the_certificate_of_a_removed_node_is_refused(new_cluster: NewCluster) -> None:
    """H5: certificate of a removed node re-used. Refused."""
    cluster = new_cluster("ab")
    a, b = cluster.form()
    certificate = own_certificate(b)
    key = key_of(b.root, certificate)
    assert knock(a, certificate["certificate"], key)[0] == 101
    a.post(operation="remove_node", hostname="b")
    assert members(a) == {"a"}
    wait_until(lambda: knock(a, certificate["certificate"], key)[0] == 403, "it is refused")
    assert "no hdb_nodes entry for b" in knock(a, certificate["certificate"], key)[1]


def test_h6_only_the_exact_name_of_a_member_is_let_in(cluster: Cluster) -> None:
    """H6: valid corporate certificate with another name, wildcard, CN only in SAN. Refused, refused, accepted by exact
    name.
    """
    a = cluster["a"]
    corporate, foreign = trustme.CA(), trustme.CA()
    pem = corporate.cert_pem.bytes().decode()
    a.post(operation="add_certificate", name="corporate", certificate=pem, is_authority=True)
    wait_until(
        lambda: knock(a, *made(corporate, "b"))[0] == 101, "the authority is trusted, and the name is a member's"
    )
    assert knock(a, *made(corporate, "somebody.example"))[0] == 403
    assert knock(a, *made(corporate, "*.example"))[0] == 403
    assert knock(a, *made(corporate, "other.example", common_name="b"))[0] == 101
    assert knock(a, *made(corporate, "a"))[0] == 403, "its own name"
    assert knock(a, *made(foreign, "b"))[0] == 0, "an authority that nobody trusts"
    assert knock(a)[0] == 403, "no certificate and no credentials"
