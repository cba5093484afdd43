"""The commands of ``compress``, one click function a file: each parses, calls the library, prints.

Nothing heavy is imported before it is needed, so that ``compress --help`` answers at once.
"""
