"""From YAML to checked settings."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atbptt.config.arms import beside_policy as beside_policy
    from atbptt.config.components import SUPPLIED as SUPPLIED, Component as Component
    from atbptt.config.composing import (
        CONFIG_NAME as CONFIG_NAME,
        Command as Command,
        composer as composer,
        expanded as expanded,
        launcher_options as launcher_options,
        read_command as read_command,
        split_flags as split_flags,
    )
    from atbptt.config.files import ConfigFile as ConfigFile
    from atbptt.config.jobs import Shared as Shared, job_config as job_config
    from atbptt.config.narrowing import narrowed as narrowed
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
