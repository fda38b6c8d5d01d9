"""What there is to build with: devices, boards, links, systems, resources, how much logic fits a clock period.

The ground floor of `plan`: imports no other room of it.
"""
