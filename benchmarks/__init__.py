"""
Measurements, each beside a bare driver in the same run: machines are noisy, ratios travel.

``python3 dev.py bench`` (or ``python -m benchmarks [NAME…]``) prints the table that the README quotes. Nothing here
asserts a time; tests assert counts.
"""
