"""Authorization metadata and certificates become a login, or a refusal that repeats nothing of them."""

from __future__ import annotations

import base64
import math
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from flows.relay.access.certificate import holder
from flows.relay.access.credentials import Credentials, Login, login
from flows.relay.access.kubernetes import claim_of
from flows.relay.access.scope import Denied
from flows.relay.access.tokens import digest, expiry

if TYPE_CHECKING:
    from flows.demo.api.pki import Pki

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
TOKENS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        ("Bearer abc.def", Login("abc.def")),
        ("bearer abc", Login("abc")),
        ("  BEARER   abc  ", Login("abc")),
        (basic("x:abc"), Login("abc", "x")),
        (basic(":abc"), Login("abc", "")),
        (basic("x:a:b:c"), Login("a:b:c", "x")),
        (basic("Jürgen:abc"), Login("abc", "Jürgen")),
        (basic("x:abc").replace("Basic", "bAsIc"), Login("abc", "x")),
    ],
)
def test_login_is_a_bearer_token_or_the_password_of_basic(authorization: str, expected: Login) -> None:
    assert login(authorization) == expected


@pytest.mark.parametrize(
    "authorization",
    [
        "s3cr3t-t0ken",  # the token itself, without a scheme
        "Bearer",
        "Bearer ",
        "Bearer s3cr3t t0ken",
        "Bearer s3cr3t\tt0ken",
        "Bearer s3cr3t-tökén",
        "Basic",
        "Basic s3cr3t-t0ken",  # no base64
        "Basic czNjcjN0",  # no colon
        basic("s3cr3t:"),
        basic("x:s3cr3t t0ken"),
        "Basic " + base64.b64encode(b"x:\xff\xfe").decode(),
        "Digest username=s3cr3t",
        "Negotiate s3cr3t",
    ],
)
def test_malformed_authorization_says_what_was_expected_and_repeats_nothing(authorization: str) -> None:
    with pytest.raises(Denied, match=r"expected .*Bearer TOKEN.*Basic BASE64") as caught:
        login(authorization)
    assert caught.value.code == UNAUTHENTICATED
    assert "kubeconfig" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


@given(st.text())
def test_any_text_is_a_login_or_unauthenticated(authorization: str) -> None:
    found: Login | Denied
    try:
        found = login(authorization)
    except Denied as denied:
        found = denied
    if isinstance(found, Denied):
        assert found.code == UNAUTHENTICATED
    else:
        assert found.token
        assert found.token.isascii()
        assert not set(found.token) & set(" \t\r\n\0")


@given(TOKENS, st.text(st.characters(exclude_characters=":", exclude_categories=["Cs"])))
def test_both_forms_give_the_token_back(token: str, name: str) -> None:
    assert login(f"Bearer {token}") == Login(token)
    assert login(basic(f"{name}:{token}")) == Login(token, name)


def test_nothing_that_is_printed_shows_a_token() -> None:
    credentials = Credentials("Bearer s3cr3t", "unix:")
    assert "s3cr3t" not in f"{credentials!r} {login('Bearer s3cr3t')!r} {claim_of(credentials)!r}"


# Tokens


def test_digest_tells_tokens_apart_without_holding_them() -> None:
    assert digest("a-token") == digest("a-token")
    assert digest("a-token") != digest("b-token")
    assert b"token" not in digest("a-token")


def test_expiry_is_read_from_json_web_tokens(pki: Pki) -> None:
    token = pki.service_account_token("a", "viewer", "uid", 600)
    assert expiry(token) == pytest.approx(time.time() + 600, abs=5)


def jwt(payload: bytes) -> str:
    return f"x.{base64.urlsafe_b64encode(payload).rstrip(b'=').decode()}.x"


@pytest.mark.parametrize(
    "token",
    [
        "opaque",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        jwt(b"[]"),
        jwt(b"{}"),
        jwt(b'{"exp":"soon"}'),
        jwt(b'{"exp":null}'),
        jwt(b"\xff"),
        "..",
    ],
)
def test_other_tokens_have_no_known_expiry(token: str) -> None:
    assert expiry(token) == math.inf


@given(TOKENS | st.binary().map(jwt) | st.integers().map(lambda exp: jwt(b'{"exp":%d}' % exp)))
def test_expiry_of_any_token_is_a_number(token: str) -> None:
    assert not math.isnan(expiry(token))


@pytest.mark.parametrize("depth", [10, 1_000, 20_000])
def test_nested_payloads_are_harmless(depth: int) -> None:
    assert expiry(jwt(b'{"a":' + b"[" * depth)) == math.inf


# Certificates


def certificate(*attributes: tuple[x509.ObjectIdentifier, str], ends: datetime | None = None) -> bytes:
    """Self-signed: TLS has verified the chain before anybody reads it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(now - timedelta(days=2)).not_valid_after(ends or now + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


NAME, GROUP, UNIT = x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATION_NAME, x509.NameOID.ORGANIZATIONAL_UNIT_NAME


@pytest.mark.parametrize(
    ("subject", "user", "groups"),
    [
        (((NAME, "jane"),), "jane", ()),
        (((GROUP, "dev"), (UNIT, "ignored"), (NAME, "jane"), (GROUP, "ops")), "jane", ("dev", "ops")),
        (((NAME, "first"), (NAME, "last")), "last", ()),  # as Go's crypto/x509
        (((GROUP, "dev"),), "", ("dev",)),
        (((NAME, "Jürgen\n"),), "Jürgen\n", ()),
    ],
)
def test_common_name_is_the_user_and_organizations_are_groups(
    subject: tuple[tuple[x509.ObjectIdentifier, str], ...], user: str, groups: tuple[str, ...]
) -> None:
    found = holder(certificate(*subject))
    assert (found.user, found.groups) == (user, groups)
    assert found.expires == pytest.approx(time.time() + 86_400, abs=60)


def test_claim_of_a_certificate_is_a_known_user_in_the_group_of_all_who_are() -> None:
    claim = claim_of(Credentials(certificate=certificate((GROUP, "dev"), (NAME, "jane"))))
    assert claim.user is not None
    assert (claim.user.name, claim.user.groups) == ("jane", ("dev", "system:authenticated"))


def test_token_goes_before_the_certificate_of_the_proxy_that_hands_it_on() -> None:
    claim = claim_of(Credentials("Bearer abc", certificate=certificate((NAME, "hubble-ui"))))
    assert (claim.token, claim.user) == ("abc", None)


@pytest.mark.parametrize(
    ("credentials", "says"),
    [
        (Credentials(), "give a token"),
        (Credentials(certificate=certificate((GROUP, "dev"))), "no common name"),
        (Credentials(certificate=b"rubbish"), "cannot be read"),
        (Credentials("rubbish", certificate=certificate((NAME, "jane"))), "Bearer TOKEN"),
    ],
)
def test_who_names_nobody_is_unauthenticated_and_told_how(credentials: Credentials, says: str) -> None:
    with pytest.raises(Denied, match=says) as caught:
        claim_of(credentials)
    assert caught.value.code == UNAUTHENTICATED
    assert "flows observe --kubeconfig" in str(caught.value)
    assert "--basic-auth-password" in str(caught.value)
