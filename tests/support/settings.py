"""Settings as tests need them."""

import base64
from typing import Any

from config.settings import Settings

ENCRYPTION_KEY = base64.urlsafe_b64encode(b"refundry tests, encryption key.."[:32]).decode()
INDEX_KEY = "refundry tests, index key"


def make_settings(**sections: Any) -> Settings:
    """Settings with keys and nothing else but what is given."""
    security = {"encryption_keys": [ENCRYPTION_KEY], "index_key": INDEX_KEY}
    return Settings(**{"security": security, **sections})
