"""The real-valued network that frontends read and quantization turns into an integer graph."""
