"""Nano: the small world that the embedded model was trained in. Nothing but the demo, benchmarks and tests imports it.

world      scripts of videos: what is shown, when
questions  questions about a script with their exact answers
render     a script's frames
video_file a script as an H.264 file
train      the training of a model on them, its losses and its shape beside it
"""
