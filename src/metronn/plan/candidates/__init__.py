"""What could be built: the graph cut into steps, kernels and reuse for each, layouts, conversions between them.

Imports kernels; chooses nothing, that is `solve`.
"""
