"""`r1prov`, and `python -m r1prov`."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point: Ctrl-C ends with 130 from the first import on."""
    try:
        from r1prov.cli.app import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)


if __name__ == "__main__":
    main()
