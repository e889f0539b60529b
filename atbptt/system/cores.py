"""How many CPU cores there are to compute on."""


def available_cores() -> int:
    """Cores that this process may use, by affinity and by the limits of a container."""
    import joblib  # a tenth of a second, which --help need not wait for

    return int(joblib.cpu_count())
