"""From a design to files: `build` lists every file of a build by its path, as bytes. Same design, same bytes.

`hls` and `rtl` write the two languages, `sim` the simulation folder. Decides nothing: place, time and arithmetic
come from `plan`.
"""
