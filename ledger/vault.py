"""Customer and bank data at rest: encrypted, and findable through keyed hashes."""

import hashlib
import hmac
import unicodedata
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from domain.errors import ConfigurationError


class Vault:
    """Seals bytes with the first key, opens with any; hashes search terms under a key of their own."""

    def __init__(self, encryption_keys: Sequence[str], index_key: str) -> None:
        if not encryption_keys or not index_key:
            raise ConfigurationError("security.encryption_keys and security.index_key must both be set")
        try:
            self._fernet = MultiFernet([Fernet(key) for key in encryption_keys])
        except ValueError:
            raise ConfigurationError(
                "security.encryption_keys: each must be a Fernet key (32 bytes in URL-safe base64)"
            ) from None
        self._index_key = index_key.encode()

    def seal(self, data: bytes) -> bytes:
        """Encrypt and authenticate."""
        return self._fernet.encrypt(data)

    def open(self, sealed: bytes) -> bytes:
        """Decrypt; ConfigurationError when no configured key fits."""
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken:
            raise ConfigurationError("security.encryption_keys: none of them opens a stored value") from None

    def rotate(self, sealed: bytes) -> bytes:
        """The same content under the first key."""
        return self._fernet.rotate(sealed)

    def index(self, kind: str, value: str | None) -> str | None:
        """A keyed hash of the normalised value, for exact search; None for nothing."""
        if value is None or not value.strip():
            return None
        normal = " ".join(unicodedata.normalize("NFKC", value).casefold().split())

        return hmac.new(self._index_key, f"{kind}:{normal}".encode(), hashlib.sha256).hexdigest()
