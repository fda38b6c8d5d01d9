"""Reports of a build: text for the terminal, and one HTML file that needs nothing beside it.

Reads designs, manifests and reports of quantization; computes no result of its own.
"""
