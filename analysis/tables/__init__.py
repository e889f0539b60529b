"""Tables of results, as text, Markdown and LaTeX."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cells import measure_name as measure_name
    from .comparisons import compared_tables as compared_tables
    from .formats import without_formulas as without_formulas
    from .marks import versions as versions
    from .table import print_table as print_table, result_tables as result_tables, tables_of as tables_of
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
