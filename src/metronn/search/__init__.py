"""Searches for the cheapest widths that hold a metric: space, evaluation, search, workers, journal.

Above `quantize` and `plan`, whose answers it compares; knows neither files of a build nor the command line.
"""
