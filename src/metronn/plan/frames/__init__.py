"""What crosses a link: signals, how their bits are packed into lane words, and the paths of bits at both ends.

Knows layouts and cycles, and of kernels only what memories cost.
"""
