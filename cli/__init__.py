"""The `lanefit` command line: typer commands and reports. They compute nothing that the packages do not offer."""
