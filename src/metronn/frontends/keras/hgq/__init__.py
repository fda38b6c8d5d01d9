"""Layers of HGQ2: `layers` is the table; every quantizer stands where HGQ2 has it.

Imports what reads Keras layers; only `keras.read` imports it.
"""
