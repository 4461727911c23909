"""Reports from result files: the terminal's table and the one-file HTML page."""

from ttl_jax.report.comparison.comparison_page import figure_files
from ttl_jax.report.comparison.text import (
    comparisons,
    data_sets,
    headlines,
    read_comparison,
    warned,
    with_pictures,
)
from ttl_jax.report.exports import write_tables
from ttl_jax.report.html import write
from ttl_jax.report.results_table import print_table
from ttl_jax.report.rows import Row, Value, rows
from ttl_jax.report.search_page import read_search

__all__ = [
    "Row",
    "Value",
    "comparisons",
    "data_sets",
    "figure_files",
    "headlines",
    "print_table",
    "read_comparison",
    "read_search",
    "rows",
    "warned",
    "with_pictures",
    "write",
    "write_tables",
]
