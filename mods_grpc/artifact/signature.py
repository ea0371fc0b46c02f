"""Ed25519 signatures (RFC 8032) of the bytes of a manifest, which contain the digests of all other files.

A signature is the 64 bytes of `manifest.sig`. Keys are PEM files as openssl writes them, so openssl can sign and verify too. The
package cryptography is needed, and imported only when signatures are used.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mods_grpc.errors import ArtifactError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_KEY_FILE_BYTES = 64 * 1024
_PUBLIC_KEY = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TrustedKeys:
    """Public keys whose signatures are accepted."""

    keys: "tuple[Ed25519PublicKey, ...]"

    @classmethod
    def read(cls, path: Path) -> "TrustedKeys":
        """Read a file of one or more public keys in PEM.

        Raises:
            OSError: It can't be read.
            ValueError: It holds no key, or one that is not Ed25519.
            ArtifactError: The package cryptography is not installed.
        """
        _require_package()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
        from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

        keys = []
        for number, block in enumerate(_PUBLIC_KEY.findall(_read_key_file(path)), 1):
            key = load_pem_public_key(block)
            if not isinstance(key, Ed25519PublicKey):
                raise ValueError(f"key {number} of the file of trusted keys is not an Ed25519 public key")
            keys.append(key)
        if not keys:
            raise ValueError("the file of trusted keys holds no public key in PEM")
        return cls(tuple(keys))

    def require(self, manifest: bytes, signature: bytes) -> None:
        """Require that one of the keys made this signature of this manifest.

        Raises:
            ArtifactError: None did.
        """
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415

        for key in self.keys:
            try:
                return key.verify(signature, manifest)
            except InvalidSignature:
                continue
        reason = f"none of the {len(self.keys)} trusted keys made it for this manifest: it was changed, or signed by another key"
        raise ArtifactError(f"manifest.sig: {reason}")


def read_signing_key(path: Path) -> Callable[[bytes], bytes]:
    """Read a private key in PEM, without a password, and return its signing function.

    Raises:
        OSError: It can't be read.
        ArtifactError: It is not a readable Ed25519 private key, or the package cryptography is not installed.
    """
    _require_package()
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        key = load_pem_private_key(_read_key_file(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a password
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ArtifactError(f"{path.name}: expected an Ed25519 private key in PEM without a password")
    return key.sign


def _read_key_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_KEY_FILE_BYTES)


def _require_package() -> None:
    try:
        import cryptography  # noqa: F401, PLC0415
    except ModuleNotFoundError as error:
        raise ArtifactError("signatures need the package cryptography: pip install 'mods-grpc[signing]'") from error
