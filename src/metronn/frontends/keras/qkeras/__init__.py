"""Quantizers of QKeras: their text, what they do to weights in float32, what to activations.

Imports `common` only. The layers that hold them are in `keras.qkeras_layers`, among those of Keras that they extend.
"""
