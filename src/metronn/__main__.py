"""`python -m metronn` is the `metronn` command."""

from metronn.cli.entry import main

main()
