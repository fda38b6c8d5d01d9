"""Keras files: `read` opens them, `layers` is the table from class to function, one file per kind of layer.

Networks of HGQ2 and QKeras are Keras files with further layers; their folders are inside. No file imports Keras,
TensorFlow, HGQ2 or QKeras.
"""
