"""The way from a request to a verified build: options, stages in order, the build's folder. Command line and Python
interface (`metronn.compile`) are thin over it.
"""
