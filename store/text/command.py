"""The commands that bb's messages suggest: built in one place, so that a shell takes each word as it is meant."""

import re
import shlex

_SHARED = re.compile(r"@([0-9a-f]{12})(?=#|$)")  # where a local file was named


def command(verb: str, *arguments: object, **options: object) -> str:
    """A command line to paste: `command("extract", ckpt="a b")` is "bb extract --ckpt 'a b'".

    Options in the order given, `_` for `-`; None and False are left out, True is a flag, a list repeats its option.
    Arguments come last where one of them would pass for an option.
    """
    given = list(map(str, arguments))
    last = ["--", *given] if any(each.startswith("-") for each in given) else []
    words = ["bb", *verb.split(), *([] if last else given)]
    for name, value in options.items():
        option = f"--{name.strip('_').replace('_', '-')}"
        for each in value if isinstance(value, list | tuple) else [value]:
            if each is None or each is False:
                continue
            joined = [f"{option}={each}"] if str(each).startswith("-") else [option, str(each)]
            words += [option] if each is True else joined
    return shlex.join([*words, *last])


def extract_command(ckpt: str, **options: object) -> str:
    """`bb extract` by a backbone as a store names it: of a local file it knows the digest, so a person adds a path."""
    found = None if "hf-hub:" in ckpt else _SHARED.search(ckpt)
    if found is None:
        return command("extract", ckpt=ckpt, **options)
    typed = f"{ckpt[: found.start()]}@PATH{ckpt[found.end() :]}"
    words = f"(PATH is the weights file whose SHA-256 begins with {found[1]})"
    return f"{command('extract', ckpt=typed, **options)} {words}"


def quoted(path: object) -> str:
    """A path as a shell takes it, at the end of a command that is not bb's."""
    return shlex.quote(f"./{path}" if str(path).startswith("-") else str(path))
