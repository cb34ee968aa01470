"""Nano: a small world of drawn videos, and the training of two models on it: tempo-nano, and nano-vl of stock layout.

The demo, the benchmarks and the tests use it; the embedded model, tempo-nano, is what lies in weights/.

world      scripts of videos: what is shown, when
questions  questions about a script with their exact answers
render     a script's frames
video_file a script as an H.264 file
train      the training of a model on them, its losses and its shape beside it
"""
