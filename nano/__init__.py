"""Nano: a small world of drawn videos, and the training of a model on it.

The demo, the benchmarks and the tests use it; the embedded model is what lies in weights/.

world      scripts of videos: what is shown, when
questions  questions about a script with their exact answers
render     a script's frames
video_file a script as an H.264 file
train      the training of a model on them, its losses and its shape beside it
"""
