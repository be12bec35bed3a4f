"""The verbs of the command line, and their options."""

import typer.main

import bb.cli


def verbs(command=None, name="bb"):
    """Every verb with its parameters, subcommands included."""
    command = command or typer.main.get_command(bb.cli.app)
    children = getattr(command, "commands", {})
    if not children:
        yield name, command
    for word in children:
        yield from verbs(command.get_command(None, word), f"{name} {word}")


VERBS = dict(verbs())
