"""Readers of users' CSV files, which refuse what they cannot trust and say in which rows it stands."""
