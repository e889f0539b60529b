"""`python -m atbptt.probe CHECKPOINT`: see `atbptt.diagnosis_command`.

Not to be imported: `atbptt.probe` is the library's function.
"""

import sys

from atbptt.system import needed_by

if __name__ != "__main__":
    raise ImportError("atbptt.probe is a function of the library: from atbptt import probe")
else:
    with needed_by("python -m atbptt.probe"):
        from atbptt.diagnosis_command import main

        sys.exit(main())
