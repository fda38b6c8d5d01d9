"""Passes over integer graphs, after quantization. Import `ir` alone; codes of kept values never change."""
