"""Alerts out: formats turn an alert into a line, sinks bring lines to where they are read.

A format is a module of this folder that knows nothing of files and sockets; a sink knows nothing of formats.
`destination` puts one of each together from what the user wrote.
"""
