"""Tempo: questions and their answers. The query engine and its caches."""
