"""Certificates: adding, removing and listing them, and the signing that joining nodes ask for.

What is stored where, and what may be signed, is the business of the node's ``Certificates``.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Final

from ops.context import Context, NewCertificate
from ops.fan_out import with_answers_of_peers
from ops.operation import Operation, SuperUser, operation
from ops.params import NAME_LENGTH_MAX, Flag, ListOf, Problem, Text


@dataclass(frozen=True, slots=True)
class TextList:
    """An array of texts."""

    def convert(self, label: str, value: Any) -> list[str]:
        texts = ListOf().convert(label, value)
        for position, element in enumerate(texts):
            if not isinstance(element, str):
                raise Problem(f"'{label}[{position}]' must be a string")
        return texts


@dataclass(frozen=True, slots=True, kw_only=True)
class AddCertificate:
    name: Annotated[str | None, Text(length_max=NAME_LENGTH_MAX)] = None
    certificate: Annotated[str, Text()]
    is_authority: Flag
    private_key: Annotated[str | None, Text()] = None
    hosts: Annotated[list[str] | None, TextList()] = None
    uses: Annotated[list[str] | None, TextList()] = None
    ciphers: Annotated[str | None, Text()] = None
    replicated: Flag = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveCertificate:
    name: Annotated[str, Text()]
    replicated: Flag = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SignCertificate:
    csr: Annotated[str | None, Text()] = None


@operation("add_certificate", needs=SuperUser("addCertificate"), params=AddCertificate)
async def add_certificate(ctx: Context, params: AddCertificate) -> dict[str, Any]:
    """Add a certificate, or replace the one of the same name; new connections see it at once."""
    new = NewCertificate(
        certificate=params.certificate,
        is_authority=params.is_authority,
        name=params.name,
        private_key=params.private_key,
        hosts=params.hosts,
        uses=params.uses,
        ciphers=params.ciphers,
    )
    name = await ctx.services.certificates.add(new, user=ctx.user_name)
    return await with_answers_of_peers(ctx, f"Successfully added certificate: {name}", replicated=params.replicated)


@operation("remove_certificate", needs=SuperUser("removeCertificate"), params=RemoveCertificate)
async def remove_certificate(ctx: Context, params: RemoveCertificate) -> dict[str, Any]:
    """Remove a certificate, and its private key where no other certificate has it."""
    await ctx.services.certificates.remove(params.name, user=ctx.user_name)
    return await with_answers_of_peers(ctx, f"Successfully removed {params.name}", replicated=params.replicated)


@operation("list_certificates", needs=SuperUser("listCertificates"))
async def list_certificates(ctx: Context, _: None) -> list[dict[str, Any]]:
    """All certificates of this node, without keys."""
    return ctx.services.certificates.rows()


@operation("create_csr", needs=SuperUser("createCsr"))
async def create_csr(ctx: Context, _: None) -> dict[str, str]:
    """A request for a certificate of this node, for another one to sign."""
    request = await ctx.services.certificates.create_csr()
    return {"pem": request.pem, "privateKeyName": request.private_key_name}


@operation("sign_certificate", needs=SuperUser("signCertificate"), params=SignCertificate)
async def sign_certificate(ctx: Context, params: SignCertificate) -> dict[str, str]:
    """Sign a request with the authority of this node.

    Who has the credentials of a super user gets any name signed, a member none of another one.
    """
    if params.csr is None:
        return {}
    caller, cluster = ctx.caller, ctx.services.cluster
    members = () if cluster is None else cluster.watch.known_names()
    signed = await ctx.services.certificates.sign(
        params.csr,
        may_take_over=caller is None or not caller.is_member,
        others=[name for name in members if caller is None or name.lower() != caller.name.lower()],
    )
    return {"signingCA": signed.authority_pem, "certificate": signed.certificate_pem}


OPERATIONS: Final[tuple[Operation, ...]] = (
    add_certificate,
    remove_certificate,
    list_certificates,
    create_csr,
    sign_certificate,
)
