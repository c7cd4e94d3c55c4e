"""Errors, units, registry and files: small things under every other package."""
