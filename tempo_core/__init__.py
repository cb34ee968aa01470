"""Tempo: what is computed."""
