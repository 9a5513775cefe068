"""Filters: FlowFilter messages compiled into masks over a FlowTable's columns."""

from flows.flow.filter.algebra import Filter, compile_filters
from flows.flow.filter.errors import FilterError
from flows.flow.filter.limits import has_patterns
from flows.flow.filter.selection import Selection, select

__all__ = ["Filter", "FilterError", "Selection", "compile_filters", "has_patterns", "select"]
