"""One video: from the bytes of its source to staged parts, on whatever machine the worker is."""
