"""Which plug-ins are installed, and why some can't be used: for `bb doctor`."""

from importlib import import_module

from bb.store.plugins import Registry, installed

REGISTRIES = {
    "bb.backbones": "bb.extract.backbones.libraries:LIBRARIES",
    "bb.decoders": "bb.extract.backbones.decoders:DECODERS",
    "bb.classifiers": "bb.probe.classifiers.registry:CLASSIFIERS",
    "bb.metrics": "bb.probe.statistics.metrics:METRICS",
    "bb.protocols": "bb.probe.classification.published.registry:PROTOCOLS",
    "bb.tasks": "bb.probe.tasks.registry:TASKS",
    "bb.storage": "bb.store.storage.url:STORAGE",
    "bb.loggers": "bb.probe.retrieval.loggers.base:LOGGERS",
}


def plugin_facts() -> dict[str, str]:
    """A line for each plug-in: its group, name and package, and its version or what is wrong with it."""
    facts = {}
    for group in sorted({plugin.group for plugin in installed()}):
        problems = registry(group).problems() if group in REGISTRIES else {}
        for plugin in installed(group):
            unknown = f"unknown group {group}: choose {', '.join(REGISTRIES)}" if group not in REGISTRIES else ""
            name = f"plug-in {group}: {plugin.name} of {plugin.distribution}"
            facts[name] = unknown or problems[plugin] or plugin.version
    return facts


def registry(group: str) -> Registry[object]:
    """The registry of an entry-point group; only its module is imported."""
    module, _, name = REGISTRIES[group].partition(":")
    found: Registry[object] = getattr(import_module(module), name)
    return found
