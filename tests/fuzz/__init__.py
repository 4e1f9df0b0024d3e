"""Readers of what strangers write, each as a function of bytes: for random and guided search."""
