"""Model files and layers of kinds that are not read yet, told by name, so that their users need not guess."""

from __future__ import annotations

from pathlib import Path

RECURRENT = "a recurrent network, which metronn does not read yet"
TREES = "decision trees, which metronn does not read yet"

NOT_YET = {
    "ai.onnx.ml.TreeEnsemble": TREES,
    "ai.onnx.ml.TreeEnsembleClassifier": TREES,
    "ai.onnx.ml.TreeEnsembleRegressor": TREES,
    **dict.fromkeys(("GRU", "LSTM", "RNN", "SimpleRNN", "Bidirectional", "Loop", "Scan"), RECURRENT),
    **dict.fromkeys(("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "GRUCell", "LSTMCell", "SimpleRNNCell"), RECURRENT),
    **dict.fromkeys(("QGRU", "QLSTM", "QSimpleRNN", "QBidirectional"), RECURRENT),
}
"""What a network with such a layer is, by the name of the layer's kind."""

SUFFIXES = {
    ".cbm": "a CatBoost model of decision trees",
    ".joblib": "a pickle of Python objects (scikit-learn's, for example)",
    ".nir": "a NIR graph of a spiking network",
    ".pb": "a TensorFlow graph; save the Keras model as .keras or .h5",
    ".pickle": "a pickle of Python objects (scikit-learn's, for example)",
    ".pkl": "a pickle of Python objects (scikit-learn's, for example)",
    ".pt": "a PyTorch checkpoint or TorchScript; export the module with torch.export.save to a .pt2",
    ".pth": "a PyTorch checkpoint; export the module with torch.export.save to a .pt2",
    ".tflite": "a TensorFlow Lite model; save the Keras model as .keras or .h5",
    ".ubj": "an XGBoost model of decision trees",
}
"""What files with other suffixes are."""


def foreign(path: Path, content: bytes) -> str | None:
    """Return what a model file of a kind that is not read is, by its first bytes and its suffix, else None."""
    start = content[:4096]
    json = start.lstrip()[:1] == b"{" and b'"class_name"' not in start
    if (json and b'"learner"' in start) or (start[:1] == b"{" and b"learner" in start[:64]):
        return "an XGBoost model of decision trees"
    if json and (b'"oblivious_trees"' in content or b'"trees"' in start):
        return "a model of decision trees"
    if start.startswith(b"tree\n"):
        return "a LightGBM model of decision trees"
    if start[4:8] == b"TFL3":
        return SUFFIXES[".tflite"]
    if start.startswith(b"CBM1"):
        return SUFFIXES[".cbm"]
    if start.startswith(b"\x89HDF") and b"NIRGraph" in content:
        return SUFFIXES[".nir"]
    return SUFFIXES.get(path.suffix.lower())
