"""What every frontend shares: the builder of real networks, convolutions, products, kinds of files.

Knows no framework: imports `model`, `ir` and `errors`, and no other folder of the frontends.
"""
