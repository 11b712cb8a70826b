"""`python -m r1prov`."""

from r1prov.cli.app import main

main()
