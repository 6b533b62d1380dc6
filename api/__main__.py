"""`python -m api`: what `refundry api` and `refundry openapi` run."""

import argparse
import sys

import msgspec

from api.app import openapi
from api.server import run
from config.settings import SettingsError, load_settings
from domain.errors import ConfigurationError


def main() -> int:
    """Answers the exit status."""
    parser = argparse.ArgumentParser(prog="refundry api")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--openapi", action="store_true", help="write the OpenAPI document and end")
    given = parser.parse_args()
    if given.openapi:
        sys.stdout.write(document())
        return 0
    try:
        run(load_settings(), given.host, given.port)
    except (SettingsError, ConfigurationError) as error:
        sys.stderr.write(f"refundry: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"refundry: {given.host}:{given.port}: {error.strerror or error}\n")
        return 2

    return 0


def document() -> str:
    """The OpenAPI document as it is committed."""
    return msgspec.json.format(msgspec.json.encode(openapi()), indent=2).decode() + "\n"


if __name__ == "__main__":
    sys.exit(main())
