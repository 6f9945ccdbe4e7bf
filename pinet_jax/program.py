"""What the programs share: flags, one-sentence errors, exit codes.

Exit codes: 0 done, 1 done in part or a bug (with its traceback), 2 a mistake the
user can mend (with one sentence), 130 interrupted, 141 nobody reads the output any more.
"""

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from pinet_jax.config import check_choices, load_config
from pinet_jax.errors import UserError
from pinet_jax.runtime import hosts, memory, programs

USER_ERROR = 2
INTERRUPTED = 130
READER_GONE = 141
NO_CONFIG = "No config: give --config=configs/NAME.py, before any --config.a.b=c."

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file; override its fields as --config.FIELD.FIELD=VALUE."
)
_MULTI_HOST = flags.DEFINE_bool(
    "multi_host", False, "Join the other processes of this TPU pod, SLURM or MPI job."
)
_COORDINATOR_ADDRESS = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of process 0, to join others without --multi_host."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes of the run.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")
_JOIN_TIMEOUT = flags.DEFINE_integer(
    "join_timeout", 300, "Seconds to wait for the other processes at the start.", lower_bound=1
)


def run(main: Callable[[list[str]], int | None], known_flags_only: bool = False) -> None:
    """Parses the command line, runs `main` and ends the process with an exit code.

    Args:
        main: gets the arguments that are no flags, the program's name first; what
            it returns is the exit code.
        known_flags_only: pass unknown flags on to `main`, for `override`, instead of
            refusing them.
    """

    def parse(arguments: Sequence[str]) -> list[str]:
        flags.FLAGS.set_gnu_getopt(True)  # flags may follow the file names
        try:
            with _flag_errors_as_user_errors():
                rest = flags.FLAGS(list(arguments), known_flags_only)
        except UserError as error:
            sys.exit(_report(error))
        if flags.FLAGS["verbosity"].using_default_value:
            logging.set_verbosity(logging.WARNING)  # Orbax logs every step of a save
        return rest

    def guarded_main(arguments: list[str]) -> int | None:
        try:
            return main(arguments)
        except UserError as error:
            code = _report(error)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            code = INTERRUPTED
        except BrokenPipeError:  # whoever read our output, such as head, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = READER_GONE
        except Exception:
            if not jax.distributed.is_initialized():
                raise
            traceback.print_exc()
            code = 1
        hosts.leave(code)
        return code

    memory.collect_rarely()
    if not may_use_accelerator():
        memory.keep_freed_memory()
    app.run(guarded_main, flags_parser=parse)


def has_config() -> bool:
    """Whether --config is given."""
    return _CONFIG.value is not None


def config_from_flags() -> ConfigDict:
    """The config that --config names with its --config.a.b=c overrides, locked.

    Also joins the other processes that the flags name, and switches the persistent
    compilation cache on, so that both come before anything touches a device.

    Raises:
        UserError: --config is missing or names no config file, an override's value is
            of the wrong type or unknown, or the other processes cannot be joined.
    """
    if _CONFIG.value is None:
        raise UserError(NO_CONFIG)
    path = config_flags.get_config_filename(flags.FLAGS["config"])
    _match_tuples(_CONFIG.value, load_config(path))
    check_choices(_CONFIG.value)
    enable_compilation_cache(_CONFIG.value)
    hosts.initialize(
        _MULTI_HOST.value,
        _COORDINATOR_ADDRESS.value,
        _NUM_PROCESSES.value,
        _PROCESS_ID.value,
        _JOIN_TIMEOUT.value,
    )
    return _CONFIG.value


def override(config: ConfigDict, arguments: Sequence[str]) -> list[str]:
    """Sets the fields of `config` that `--config.a.b=c` arguments name, in place.

    Args:
        config: locked, e.g. from a checkpoint.
        arguments: as `run` hands them to main, the program's name first.

    Returns:
        The other arguments, the program's name first.

    Raises:
        UserError: an unknown flag or field, or a value that is of the wrong type or unknown.
    """
    if _CONFIG.value is not None:
        raise UserError(
            "--config: a checkpoint carries its config; override fields as --config.a.b=c."
        )
    before = config.copy_and_resolve_references()
    with _flag_errors_as_user_errors():
        values = flags.FlagValues()
        values.set_gnu_getopt(True)
        config_flags.DEFINE_config_dict(
            "config", config, flag_values=values, sys_argv=list(arguments)
        )
        rest = values(list(arguments))
    _match_tuples(config, before)
    check_choices(config)
    return rest


def may_use_accelerator() -> bool:
    """Whether JAX has a plugin for one, and is not told to stay on the CPU; nothing is started."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return False
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    return bool(plugins) or importlib.util.find_spec("libtpu") is not None


def enable_compilation_cache(config: ConfigDict) -> None:
    """Keeps compiled programs in the folder config.compilation_cache; "" keeps none."""
    if config.compilation_cache:
        folder = os.path.expanduser(config.compilation_cache)
        jax.config.update("jax_compilation_cache_dir", folder)
        programs.keep_in(os.path.join(folder, "programs"))


def _match_tuples(config: ConfigDict, before: ConfigDict) -> None:
    """Gives tuples from the command line the element types they had before.

    ml_collections checks every type but those inside tuples.
    """
    for field, value in before.items():
        new = config[field]
        if isinstance(value, ConfigDict):
            _match_tuples(new, value)
        elif isinstance(value, tuple) and value and new != value:
            kind = type(value[0])
            allowed = (int, float) if kind is float else kind
            if not all(isinstance(item, allowed) for item in new):
                raise UserError(f"config field '{field}': {new} must hold {kind.__name__}s.")
            config[field] = tuple(map(kind, new))


@contextlib.contextmanager
def _flag_errors_as_user_errors() -> Iterator[None]:
    try:
        yield
    except flags.UnrecognizedFlagError as error:
        # Without --config its fields are no flags.
        is_field = (error.flagname or "").startswith("config.")
        raise UserError(NO_CONFIG if is_field else _sentence(error)) from None
    except flags.Error as error:
        raise UserError(_sentence(error)) from None
    except (AttributeError, KeyError) as error:
        raise UserError(_unknown_field(str(error))) from None
    except SyntaxError as error:
        raise UserError(f"--config names a file that is not Python: {error}.") from None
    except OSError:
        raise UserError("Cannot read the file that --config names: give its path.") from None


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if text.endswith((".", "?")) else f"{text}."


def _unknown_field(message: str) -> str:
    """ml_collections names the field, and one of a similar name, under quotes of quotes."""
    similar = re.search(r'Did you mean "(.*?)" instead of "(.*?)"', message)
    if similar:
        return f"The config has no field '{similar[2]}': did you mean '{similar[1]}'?"
    name = message.replace("\\", "").strip("'\"")
    return f"The config has no such field ({name}); see configs/base.py."


def _report(error: UserError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return USER_ERROR
