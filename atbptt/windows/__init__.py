"""Windows: a stream cut by a scheme, with lengths from a policy; each window starts in the state the last one left."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atbptt.probes import SCHEMES as SCHEMES
    from atbptt.windows.cursor import Cursor as Cursor
    from atbptt.windows.loop import Windows as Windows
    from atbptt.windows.prober import Prober as Prober, check_asked as check_asked
    from atbptt.windows.schedules import (
        CheckedSchedule as CheckedSchedule,
        CosineDecay as CosineDecay,
        InverseSqrtDecay as InverseSqrtDecay,
        LrSchedule as LrSchedule,
        NoDecay as NoDecay,
        PlateauDecay as PlateauDecay,
        StepDecay as StepDecay,
    )
    from atbptt.windows.schemes import (
        LR_SCALINGS as LR_SCALINGS,
        PHASES as PHASES,
        Window as Window,
        check_scheme as check_scheme,
        full_lr as full_lr,
        window_lr as window_lr,
        windows as windows,
    )
    from atbptt.windows.stream_window import StreamWindow as StreamWindow
    from atbptt.windows.streams import (
        Stream as Stream,
        batchify as batchify,
        padded as padded,
        side_by_side as side_by_side,
    )
    from atbptt.windows.update import clip as clip, step as step
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
