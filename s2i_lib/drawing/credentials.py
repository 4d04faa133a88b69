"""C2PA content credentials: a signed manifest in a file, read and, with a certificate, made.

They need the extra ``s2i_lib[c2pa]`` (c2pa-python, 53 MB, which nothing else here uses). Without it
a manifest is still noticed. Who signs is known by the certificate: it is the user's, bought or
given by an authority, and never one of ours.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.drawing.marks import SOURCES, Mark
from s2i_lib.errors import InputError, first_line
from s2i_lib.storage.json_file import parse_object, read_limited

if TYPE_CHECKING:
    from types import ModuleType

INSTALL = "pip install 's2i_lib[c2pa]', or pip install c2pa-python"
# OpenSSL's names of the keys that C2PA allows -> C2PA's names of the algorithms.
CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


def find_c2pa() -> ModuleType | None:
    """Return the library, or None where it is not installed."""
    try:
        import c2pa
    except ImportError:
        return None
    return c2pa


def has_manifest(data: bytes) -> bool:
    """Return whether a file has a manifest in it (JUMBF boxes, labelled c2pa)."""
    return b"jumb" in data and b"c2pa" in data


def read_manifest(data: bytes, media_type: str) -> dict[str, Any] | None:
    """Return a file's active manifest, with ``state`` (Valid, Invalid, Trusted) beside it.

    None where it has none. No address that it names is asked.

    Raises
    ------
    InputError
        When the library is missing, or finds the manifest damaged.
    """
    if not has_manifest(data):
        return None
    if (c2pa := find_c2pa()) is None:
        raise InputError(f"To read its C2PA manifest, install the extra: {INSTALL}.")
    try:
        offline = c2pa.Context.from_dict({"verify": {"remote_manifest_fetch": False}})
        with c2pa.Reader(media_type, io.BytesIO(data), context=offline) as reader:
            said = parse_object(reader.json())
    except Exception as error:  # its errors share no base class with ours, and files are anybody's
        raise InputError(
            f"Its C2PA manifest cannot be read ({first_line(error)}): it is damaged, or of a "
            "newer kind. Ask for the file as it was."
        ) from error
    active = said.get("manifests", {}).get(said.get("active_manifest"), {})
    return {**active, "state": said.get("validation_state", "unknown")}


@dataclass(frozen=True)
class Signer:
    """Signs with the user's own certificate."""

    certificate: Path
    """Chain of certificates in PEM, the signer's own first."""
    key: Path
    """Its private key in PEM (PKCS #8)."""

    def sign(self, data: bytes, media_type: str, mark: Mark) -> bytes:
        """Return a PNG, JPEG or WebP with a signed manifest that says what its mark says.

        Raises
        ------
        InputError
            When the extra is missing, or certificate and key cannot be used.
        """
        c2pa = find_c2pa()
        if c2pa is None:
            raise InputError(f"To sign, install the extra: {INSTALL}.")
        try:
            chain, key = (read_limited(path) for path in (self.certificate, self.key))
            info = c2pa.C2paSignerInfo(_algorithm(key), chain, key, None)
            signed = io.BytesIO()
            with c2pa.Signer.from_info(info) as signer, c2pa.Builder(_manifest(mark)) as builder:
                builder.sign(signer, media_type, io.BytesIO(data), signed)
        except Exception as error:  # the libraries', for what is in two files of the user's
            raise InputError(
                f"Nothing can be signed with {self.certificate} and {self.key} "
                f"({first_line(error)}). Expected a chain of certificates for C2PA in PEM, the "
                "signer's own first, and its private key in PEM (PKCS #8), without a password."
            ) from error
        return signed.getvalue()


def _algorithm(key: bytes) -> str:
    """Return what C2PA calls the way in which this private key signs."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    private = load_pem_private_key(key, None)
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return CURVES[private.curve.name]
    return "ps256"


def _manifest(mark: Mark) -> dict[str, Any]:
    name, _, version = mark.tool.partition(" ")
    agent = {"name": name, "version": version}
    created = {
        "action": "c2pa.created",
        "digitalSourceType": SOURCES + mark.source_type,
        "softwareAgent": {"name": mark.model or name},
    }
    actions = {"label": "c2pa.actions.v2", "data": {"actions": [created]}}
    return {"claim_generator_info": [agent], "title": "picture", "assertions": [actions]}
