"""Passes over real networks, before quantization. Import `model` and `ir`; `rewriting` is what they share."""
