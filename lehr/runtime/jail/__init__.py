"""A jail for programs that nobody trusts: namespaces, a file system of its own, limits, a filter of system calls.

What runs inside is started by `python -I -S`, without site-packages: this room imports the standard library only.
"""
