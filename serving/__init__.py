"""Tempo: who asks. The query engine and its caches."""
