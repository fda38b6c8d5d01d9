"""Graph to graph: one file per pass, `pipeline.py` lists them in order."""
