"""The Python interface, for notebooks and scripts: `metronn.compile`, `metronn.load`, and the build they return.

`live` writes networks that are in memory to files, `compiling` is the way to a build, `build` what it can do, `shown`
how it looks in a notebook. The work is done in `metronn.flow`, as for the command line.
"""
