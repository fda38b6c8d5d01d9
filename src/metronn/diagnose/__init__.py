"""Where a build and its network differ, layer by layer: every tensor of both on given events, and their formats.

`kept` is what a build holds for it, `subject` a build beside the network it was made of, `firmware` what the build
computes; `trace` compares that with the network, `profile` shows how trained values fill their formats. Changes nothing
of a build and judges nothing: `verify` does.
"""
