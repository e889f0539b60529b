"""Command lines and what they print, files that survive a crash or come from others, free memory, locks, signals."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atbptt.system.command_line import (
        PROGRAM as PROGRAM,
        Parser as Parser,
        UsageError as UsageError,
        end_process as end_process,
        let_go as let_go,
        needed_by as needed_by,
        open_standard_streams as open_standard_streams,
        program as program,
        run_command as run_command,
    )
    from atbptt.system.files import (
        StorageError as StorageError,
        cache_folder as cache_folder,
        check_writable as check_writable,
        content_digest as content_digest,
        file_digest as file_digest,
        made_folder as made_folder,
        make_folder as make_folder,
        move_folder as move_folder,
        numbered as numbered,
        open_to_append as open_to_append,
        replacing as replacing,
        write_atomically as write_atomically,
        write_text as write_text,
    )
    from atbptt.system.locks import LockedError as LockedError, hold as hold
    from atbptt.system.plain_values import plain as plain
    from atbptt.system.printing import (
        Console as Console,
        Lasting as Lasting,
        print_rendered as print_rendered,
        print_text as print_text,
        rendered as rendered,
    )
    from atbptt.system.reading import (
        FILE_NAME_BYTES as FILE_NAME_BYTES,
        check_inside as check_inside,
        cut_name as cut_name,
        is_file_name as is_file_name,
        is_utf8 as is_utf8,
        open_file as open_file,
        read_file as read_file,
        read_json as read_json,
    )
    from atbptt.system.resources import (
        as_size as as_size,
        available_cores as available_cores,
        lack_of_memory as lack_of_memory,
        require_memory as require_memory,
    )
    from atbptt.system.signals import (
        ENDING as ENDING,
        STORING as STORING,
        LeftRunningError as LeftRunningError,
        Signals as Signals,
        StoppedError as StoppedError,
        handle as handle,
        handled as handled,
        listen as listen,
        listening as listening,
    )
    from atbptt.system.yaml_files import read_yaml as read_yaml
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
