"""One run: which videos there are, what to do about each, and the loop that commits them."""
