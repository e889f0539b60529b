"""From YAML to checked settings."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atbptt.config.arms import beside_policy as beside_policy
    from atbptt.config.components import (
        SUPPLIED as SUPPLIED,
        Component as Component,
        errors_of as errors_of,
        leaves as leaves,
        rule_of as rule_of,
    )
    from atbptt.config.composing import (
        CONFIG_NAME as CONFIG_NAME,
        RUNS as RUNS,
        VERSION_BASE as VERSION_BASE,
        Command as Command,
        check_runs as check_runs,
        command_of as command_of,
        composed as composed,
        composer as composer,
        expanded as expanded,
        parse as parse,
        read_command as read_command,
        read_flags as read_flags,
        split_flags as split_flags,
        value_count as value_count,
        with_params as with_params,
    )
    from atbptt.config.hydra_options import (
        OF_HYDRA as OF_HYDRA,
        as_job as as_job,
        check_hydra as check_hydra,
        check_plugin as check_plugin,
        check_same as check_same,
        environment as environment,
        hydra_of as hydra_of,
        hydra_part as hydra_part,
        launcher_options as launcher_options,
        plain as plain,
        unresolved as unresolved,
    )
    from atbptt.config.jobs import ConfigFile as ConfigFile, Shared as Shared, job_config as job_config
    from atbptt.config.narrowing import narrowed as narrowed
    from atbptt.config.settings import (
        NO_PROBES as NO_PROBES,
        NOTED as NOTED,
        Settings as Settings,
        build_policy as build_policy,
        check_components as check_components,
        check_folder_name as check_folder_name,
        check_probing as check_probing,
        flattened as flattened,
        typed as typed,
        validated as validated,
    )
    from atbptt.config.sources import installed as installed, user_sources as user_sources
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
