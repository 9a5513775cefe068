"""Printing: a flow becomes a list of (column, value), and a format is a function over that list.

escape     what comes from outside, made harmless for a terminal
color      which part of a line has which colour
clock      timestamps in Go's layouts
endpoint   host names and identities
event      the TYPE and VERDICT columns
cells      a flow or lost events as (column, value)
compact, dicts, table, jsonlines     one output format each
nodes      node status lines (standard error)
coverage   how far an answer can be trusted
status     the answer of `flows status`
printer    takes responses, picks the format, writes
"""
