"""From YAML to checked settings."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atbptt.config.components import SUPPLIED as SUPPLIED, Component as Component
    from atbptt.config.composing import (
        CONFIG_NAME as CONFIG_NAME,
        Command as Command,
        composer as composer,
        expanded as expanded,
        job_config as job_config,
        job_configs as job_configs,
        launcher_options as launcher_options,
        read_command as read_command,
        split_preview as split_preview,
    )
    from atbptt.config.settings import (
        Settings as Settings,
        build_policy as build_policy,
        check_components as check_components,
        flattened as flattened,
        typed as typed,
        validated as validated,
    )
    from atbptt.config.sources import installed as installed, user_sources as user_sources
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
