"""Measurements of time and memory. Each returns plain numbers; tools/benchmark.py prints them."""
