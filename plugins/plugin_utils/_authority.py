# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of an authority, made from texts and a time: no files, no clock.

Runs on the controller only, with C(cryptography) 38 or newer, which ansible-core brings.
"""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._certificates.plan import (
    Found,
    is_address,
)

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError:  # said by the action plugin
    HAS_CRYPTOGRAPHY = False
else:
    HAS_CRYPTOGRAPHY = True

# Clocks of hosts may be behind the controller's.
_EARLIER = timedelta(hours=1)
_DAY = timedelta(days=1)
_LEAST_RSA_BITS = 2048
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_MOST_COMMON_NAME = 64


@dataclass(frozen=True)
class Authority:
    """An authority: the certificate that signs, and all that are to be trusted with it.

    C(key) is None where nothing can be signed.
    """

    certificate: Any
    trusted: tuple[Any, ...]
    key: Any = None

    @property
    def text(self) -> str:
        """All certificates, the signing one first."""
        return "".join(_text(certificate) for certificate in self.trusted)

    @property
    def ends(self) -> datetime:
        """Until when what it signs can be valid."""
        return _ends(self.certificate)


def read_authority(text: str, where: str, now: datetime) -> Authority:
    """The authority whose certificates these are. The first one signs, and all are trusted.

    Raises:
        ValueError: saying what is wrong with C(where).
    """
    certificates = _certificates(text, where)
    first = certificates[0]
    if not _may_sign(first):
        raise ValueError(
            f"{where}: the first certificate is not that of an authority (CA:TRUE, and keyCertSign"
            " where it says what its key may be used for), so clients would not accept what it"
            " signs"
        )
    if _ends(first) <= now:
        raise ValueError(
            f"{where}: the authority expired on {_ends(first):%Y-%m-%d}; renew it as the"
            " operating guide says"
        )
    if _begins(first) > now:
        raise ValueError(f"{where}: the authority is valid from {_begins(first):%Y-%m-%d} on only")
    authority = Authority(first, tuple(certificates))
    chain = _chain(authority)
    if chain and not any(_is_issued_by(chain[-1], one) for one in certificates):
        raise ValueError(
            f"{where}: the authority is below {chain[-1].issuer.rfc4514_string()!r}, whose"
            " certificate clients need too; append it, and those in between"
        )
    return authority


def says_what_its_key_is_for(authority: Authority) -> bool:
    """Whether strict clients take the authority: they want to read that its key may sign."""
    try:
        authority.certificate.extensions.get_extension_for_class(x509.KeyUsage)
    except x509.ExtensionNotFound:
        return False
    return True


def outside_constraints(authority: Authority, names: Sequence[str]) -> list[str]:
    """Names that the authority, or one above it, may not sign for: clients would take none of a
    certificate that has one of them.
    """
    above = _chain(authority) or [authority.certificate]
    roots = [one for one in authority.trusted if _is_issued_by(above[-1], one)]
    constraints = []
    for certificate in (*above, *roots):
        with suppress(x509.ExtensionNotFound):
            found = certificate.extensions.get_extension_for_class(x509.NameConstraints)
            constraints.append(found.value)
    return [name for name in names if not all(_permits(one, name) for one in constraints)]


def _permits(constraints: Any, name: str) -> bool:
    kind = x509.IPAddress if is_address(name) else x509.DNSName
    permitted, excluded = (
        [_covers(tree.value, name) for tree in trees or () if isinstance(tree, kind)]
        for trees in (constraints.permitted_subtrees, constraints.excluded_subtrees)
    )
    return not any(excluded) and (any(permitted) or not permitted)


def _covers(tree: Any, name: str) -> bool:
    if is_address(name):
        return bool(ipaddress.ip_address(name) in tree)
    base = tree.lower()
    return not base or name == base or name.endswith(f".{base.lstrip('.')}")


def with_key(authority: Authority, text: str, where: str) -> Authority:
    """The authority with what it signs with.

    Raises:
        ValueError: saying what is wrong with C(where), and never what is in it.
    """
    try:
        key = serialization.load_pem_private_key(text.encode(), password=None)
    except TypeError:
        raise ValueError(
            f"{where}: the key has a password of its own; take that off (openssl pkey) and encrypt"
            " the file with ansible-vault instead"
        ) from None
    except Exception:  # its text would show what is in the key
        raise ValueError(
            f"{where}: this is not a private key in PEM (-----BEGIN PRIVATE KEY-----)"
        ) from None
    if not isinstance(
        key,
        (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey, ed25519.Ed25519PrivateKey,
         ed448.Ed448PrivateKey),
    ):  # fmt: skip
        raise ValueError(f"{where}: an authority needs a key of type EC, RSA or Ed25519")
    if _public(key.public_key()) != _public(authority.certificate.public_key()):
        raise ValueError(
            f"{where}: the key does not belong to the authority's first certificate,"
            f" {_shown_name(authority.certificate)}; put the certificate that belongs to it first"
        )
    return Authority(authority.certificate, authority.trusted, key)


def new_authority(kind: str, days: int, now: datetime) -> tuple[str, str]:
    """A new authority's certificate and key, PEM.

    Its name has a part that no other authority has, so that old and new can be told apart.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "pooled.postgres"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"pooled {kind} {serial % 16**8:08x}"),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + days * _DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return _text(certificate), private.decode()


def issue(
    authority: Authority,
    request: str,
    names: Sequence[str],
    purposes: Sequence[str],
    days: int,
    now: datetime,
) -> str:
    """A certificate for the key of a request, with the chain that clients need, PEM.

    A host could write anything into its request. Only the public key is taken from it, and its
    signature proves that the host has the key.

    Raises:
        ValueError: when the request is not one, or its key is too weak.
    """
    try:
        asked = x509.load_pem_x509_csr(request.encode())
        proved = asked.is_signature_valid
        public = asked.public_key()
    except Exception as error:
        raise ValueError("the host's request is not a certificate request") from error
    if not proved:
        raise ValueError("the host's request is not signed with its own key")
    _check_strength(public)
    issuer = authority.certificate
    common_name = names[0][:_MOST_COMMON_NAME]
    usages = {
        "server": ExtendedKeyUsageOID.SERVER_AUTH,
        "client": ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - _EARLIER, _begins(issuer)))
        .not_valid_after(min(now + days * _DAY, authority.ends))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            _key_usage(
                digital_signature=True, key_encipherment=isinstance(public, rsa.RSAPublicKey)
            ),
            critical=True,
        )
        .add_extension(
            x509.ExtendedKeyUsage([usages[purpose] for purpose in purposes]), critical=False
        )
        .add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(_issuer_identifier(issuer), critical=False)
        .sign(authority.key, _hash_for(authority.key))
    )
    return _text(certificate) + "".join(_text(one) for one in _chain(authority))


def describe(text: str, authority: Authority | None, has_key: bool) -> Found | None:
    """What the certificate on a host is; None when there is none that can be read.

    Args:
        text: the certificate and its chain, PEM.
        authority: the one that signs now; None when it is not made yet.
        has_key: whether its key is there.
    """
    try:
        certificate = _certificates(text, "")[0]
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        # Parsed when it is asked for, and refused when it is broken.
        ends = _ends(certificate)
    except Exception:  # the host decides what is there, and the library has an error for each flaw
        return None
    of_oid = {
        ExtendedKeyUsageOID.SERVER_AUTH: "server",
        ExtendedKeyUsageOID.CLIENT_AUTH: "client",
    }
    return Found(
        names=frozenset(
            str(getattr(name, "value", name)).lower()
            for name in names
            if isinstance(name, (x509.DNSName, x509.IPAddress))
        ),
        purposes=frozenset(of_oid.get(oid, oid.dotted_string) for oid in usage),
        ends=ends,
        is_signed=authority is not None and _is_issued_by(certificate, authority.certificate),
        has_key=has_key,
    )


def shown(text: str) -> dict[str, str]:
    """What to tell people of a certificate: who it is for, until when, and its digest."""
    certificate = _certificates(text, "")[0]
    return {
        "expires": f"{_ends(certificate):%Y-%m-%dT%H:%M:%SZ}",
        "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
        "issuer": certificate.issuer.rfc4514_string(),
    }


def same_authority(text: str, other: str) -> bool:
    """Whether two texts have an authority in common, by its name and key: who trusts one of its
    certificates takes what it signs.
    """
    try:
        known = [
            {(one.subject, _public(one.public_key())) for one in _certificates(each, "")}
            for each in (text, other)
        ]
    except Exception:  # as in describe()
        return False
    return bool(known[0] & known[1])


def _certificates(text: str, where: str) -> list[Any]:
    end = "-----END CERTIFICATE-----"
    blocks = [block for block in text.split(end) if "-----BEGIN CERTIFICATE-----" in block]
    try:
        found = [x509.load_pem_x509_certificate((block + end).encode()) for block in blocks]
    except (ValueError, x509.InvalidVersion) as error:
        raise ValueError(f"{where}: a certificate in it can't be read: {error}") from error
    if not found:
        raise ValueError(
            f"{where}: there is no certificate in it (PEM, '-----BEGIN CERTIFICATE-----')"
        )
    return found


def _may_sign(certificate: Any) -> bool:
    extensions = certificate.extensions
    try:
        if not extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
    except x509.ExtensionNotFound:
        return False
    try:
        return bool(extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign)
    except x509.ExtensionNotFound:
        return True


def _chain(authority: Authority) -> list[Any]:
    """The signing certificate and those above it, without the root, which clients have."""
    chain: list[Any] = []
    current = authority.certificate
    while current.subject != current.issuer and current not in chain:
        chain.append(current)
        current = next(
            (one for one in authority.trusted if _is_issued_by(chain[-1], one)), chain[-1]
        )
    return chain


def _is_issued_by(certificate: Any, issuer: Any) -> bool:
    if certificate.issuer != issuer.subject:
        return False
    key = issuer.public_key()
    signed = (certificate.signature, certificate.tbs_certificate_bytes)
    algorithm = certificate.signature_hash_algorithm
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(*signed, ec.ECDSA(algorithm))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(*signed, padding.PKCS1v15(), algorithm)
        else:
            key.verify(*signed)
    except (InvalidSignature, TypeError):
        return False
    return True


def _check_strength(public: Any) -> None:
    if isinstance(public, rsa.RSAPublicKey) and public.key_size >= _LEAST_RSA_BITS:
        return
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in _CURVES:
        return
    if isinstance(public, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
        return
    raise ValueError(
        "the host's key is too weak for a certificate; remove it there, and the next run makes a"
        " new one"
    )


def _general_name(name: str) -> Any:
    if is_address(name):
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)


def _issuer_identifier(issuer: Any) -> Any:
    try:
        held = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(held.value)


def _key_usage(**used: bool) -> Any:
    every = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: used.get(name, False) for name in every})


def _hash_for(key: Any) -> Any:
    if isinstance(key, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)):
        return None
    return hashes.SHA256()


def _public(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def _text(certificate: Any) -> str:
    text: str = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return text


def _shown_name(certificate: Any) -> str:
    return repr(certificate.subject.rfc4514_string())


def _ends(certificate: Any) -> datetime:
    return _utc(certificate, "not_valid_after")


def _begins(certificate: Any) -> datetime:
    return _utc(certificate, "not_valid_before")


def _utc(certificate: Any, name: str) -> datetime:
    """A time of a certificate; versions before 42 have it without its zone."""
    aware = getattr(certificate, f"{name}_utc", None)
    found: datetime = aware or getattr(certificate, name).replace(tzinfo=timezone.utc)
    return found
