"""The command line: one file per verb.

The top floor: reads arguments and files, calls what is below in order, says how it went. Nothing imports it.
"""
