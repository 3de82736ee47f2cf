"""Waiting for processes to end or change, here or on other hosts."""
