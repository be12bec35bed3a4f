"""The commands that bb's messages suggest: built in one place, so that a shell takes each word as it is meant."""

import shlex


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


def quoted(path: object) -> str:
    """A path as a shell takes it, at the end of a command that is not bb's."""
    return shlex.quote(f"./{path}" if str(path).startswith("-") else str(path))
