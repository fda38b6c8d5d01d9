"""Training that makes firmware smaller: quantization-aware training with learned widths, and pruning.

Keras and HGQ2 are imported where they are used (`metronn.train.backend`): they are the extra `metronn[train]`.
"""
