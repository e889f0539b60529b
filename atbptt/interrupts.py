"""What an entry point does before all other imports: they take seconds, and Ctrl-C should end them in silence."""

import signal


def end_silently() -> None:
    """Have Ctrl-C end this process by the signal itself, unless it is ignored or handled; `run_command` handles it.

    An exception would print a traceback of whatever is being imported, and wait for torch's native code.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
