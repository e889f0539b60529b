"""Tables of results, as text, Markdown and LaTeX."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.tables.cells import measure_name as measure_name
    from analysis.tables.comparisons import (
        equal_work_tables as equal_work_tables,
        paired_tables as paired_tables,
        target_tables as target_tables,
    )
    from analysis.tables.table import print_table as print_table, result_tables as result_tables
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
