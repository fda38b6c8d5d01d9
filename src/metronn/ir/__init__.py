"""The exact fixed-point IR: types, ops, graphs, checks, text and JSON forms.

The ground floor: imports no other package.
"""
