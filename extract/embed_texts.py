"""`bb extract --text`: vectors of texts by the text tower of a backbone, in a feature space of their own."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bb.extract.backbones.code_hash import EXTRACT, EXTRACT_AT_START, TEXT_AT_START, tree_hash
from bb.extract.backbones.device import Numerics
from bb.extract.backbones.hub import downloading
from bb.extract.backbones.load_open_clip import load_text_tower
from bb.extract.backbones.name import BackboneName, shared_name
from bb.extract.backbones.registry import check_known, load
from bb.extract.embedding import weights
from bb.extract.text.templates import SETS
from bb.extract.text.tower import SLOT, TextTower, TextVectors
from bb.store import BBError, Collection, Entry, FeatureSpace, SegmentWriter, Store, UsageError
from bb.store.format.collection import check_name, some
from bb.store.format.space import short
from bb.store.format.text import (
    TEMPLATES,
    collection_of,
    normalised,
    row_ids,
    text_keys,
    text_name,
    text_space,
)
from bb.store.reporter import Reporter, Silent
from bb.store.versions import versions

AT_ONCE = 64  # texts between two looks at the clock
VERSIONS = ("backbone-bench", "torch", "open_clip_torch", "ftfy", "regex", "tokenizers", "numpy", "zarr")


@dataclass(frozen=True)
class TextSummary:
    """What was done for one backbone and one list of texts.

    collection  of the texts; space: the key of the text space
    texts       how many there are; present: that had a vector before; computed: encoded now
    cut         those of which a filled template was longer than the network takes, and lost its end
    """

    backbone: str
    collection: str
    space: str
    texts: int
    present: int
    computed: int
    cut: tuple[str, ...]
    templates: int
    seconds: float
    store: str

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "cut": list(self.cut)}

    def line(self) -> str:
        """A sentence for a person."""
        return (
            f"{self.backbone} on {self.collection}: {self.present} texts were there, {self.computed} encoded with "
            f"{self.templates} template{'s' * (self.templates > 1)}; space {short(self.space)} in {self.store}"
        )


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A text tower with its templates and the feature space that its vectors are of."""

    name: BackboneName
    tower: TextTower
    templates: tuple[str, ...]
    space: FeatureSpace

    @classmethod
    def load(
        cls, ckpt: str | BackboneName, templates: str | Sequence[str] = "openai", device: str = "auto"
    ) -> "TextEncoder":
        """Errors: UsageError for a network without a text tower that bb can run, BBError where weights can't be had."""
        name = BackboneName.parse(ckpt) if isinstance(ckpt, str) else ckpt
        chosen = parse_templates(templates)
        if name.org != "open_clip":
            raise UsageError(
                f"{name} has no text tower: --text takes networks of open_clip, such as ViT-B-16/openai; "
                "`bb models open_clip` lists them."
            )
        where = Numerics.resolve(device, "fp32", "float32")
        check_known(name)
        backbone: Any = load(name)
        if not backbone.img_output.get("projected"):
            raise UsageError(f"{name} has no projection into a space shared with text, so its images match no text.")
        with downloading(name):
            tower = load_text_tower(name, backbone.visual).to(where.device)
        if tree_hash(EXTRACT / "text") != TEXT_AT_START:
            raise BBError("the files of extract/ changed while bb ran, so what it makes has no name: run it again.")
        space = text_space(
            image={
                "org": backbone.org,
                "architecture": backbone.architecture,
                "weights": weights.digest(backbone.vision_state()),
            },
            text=tower.architecture,
            weights=weights.digest(tower.module.state_dict()),
            tokenizer=tower.tokenizer.record(),
            templates=chosen,
            dim=tower.dim,
            code=TEXT_AT_START,
        )
        return cls(name, tower, chosen, space)

    def encode(self, texts: Sequence[str]) -> TextVectors:
        """A unit vector for each text. Errors: BBError for a text of which no token is left."""
        written = [normalised(text) for text in texts]
        if empty := [text for text in written if self.tower.tokenizer.is_empty(text)]:
            raise BBError(
                f"{empty[0]!r} has no letter, digit or mark that the tokenizer keeps, so it has no vector: write the "
                "name in words."
            )
        return self.tower.vectors(written, self.templates)

    @property
    def provenance(self) -> dict[str, Any]:
        """What each segment says of how it was made. It names no person, host or path."""
        return {
            "backbone": text_name(shared_name(self.name)),
            "device": Numerics(self.tower.device, "fp32", "float32").device_name(),
            "extract": EXTRACT_AT_START,
            "versions": versions(VERSIONS),
        }


def embed_texts(
    store: Store | str | Path,
    ckpt: str | Sequence[str],
    texts: Mapping[str, str] | Iterable[str],
    name: str,
    *,
    templates: str | Sequence[str] = "openai",
    device: str = "auto",
    reporter: Reporter | None = None,
) -> list[TextSummary]:
    """Encodes the texts that a store does not have, as `bb extract --text` does; the store is made where there is none.

    ckpt       networks of open_clip
    texts      names, or the text of each name where that is another
    name       of the list: its collection is texts.NAME
    templates  "openai" (80), "plain" (the text alone), or templates with {} in each
    device     auto, cpu, cuda, cuda:N or mps; vectors are computed in float32

    Raises UsageError and BBError, which name what to change. One network after the other; nothing is stored of a list
    with a name that is empty, stands twice or has no token.
    """
    reporter = reporter or Silent()
    opened = store if isinstance(store, Store) else Store.create(store)
    listed = checked_texts(texts)
    collection = collection_of(name)
    check_name(collection)
    chosen = parse_templates(templates)
    summaries = []
    for one in [ckpt] if isinstance(ckpt, str) else ckpt:
        reporter.info(f"loading {one}")
        encoder = TextEncoder.load(one, chosen, device)
        if empty := [key for key, text in listed.items() if encoder.tower.tokenizer.is_empty(text)]:
            raise BBError(
                f"{some([repr(key) for key in empty])}: the text has no letter, digit or mark that the tokenizer "
                "keeps, so it has no vector. Write it in words, or leave it out."
            )
        summaries.append(_embed(opened, encoder, listed, collection, reporter))
    return summaries


def _embed(
    store: Store, encoder: TextEncoder, texts: Mapping[str, str], collection: str, reporter: Reporter
) -> TextSummary:
    started = time.monotonic()
    entries = [
        Entry(name, bytes(key), len(text.encode()), None, None)
        for (name, text), key in zip(texts.items(), text_keys(list(texts.values())), strict=True)
    ]
    published = store.put_collection(Collection.from_entries(collection, entries))
    distinct = list(dict.fromkeys(texts.values()))
    missing = [
        text for text, has in zip(distinct, store.has(encoder.space, text_keys(distinct)), strict=True) if not has
    ]
    writer = SegmentWriter(store, encoder.space, encoder.provenance)
    cut: list[str] = []
    what = f"{encoder.name} on {collection}"
    for start in range(0, len(missing), AT_ONCE):
        some_texts = missing[start : start + AT_ONCE]
        made = encoder.encode(some_texts)
        cut += [text for text, n in zip(some_texts, made.cut.tolist(), strict=True) if n]
        writer.add(text_keys(some_texts), row_ids(some_texts), made.x)
        reporter.progress(what, start + len(some_texts), len(missing), "texts")
    writer.close()
    if cut:
        reporter.info(
            f"{what}: {len(cut)} text{'s are' if len(cut) > 1 else ' is'} longer than the {encoder.tower.length} "
            f"tokens that the network takes, and the end is left out, such as that of {cut[0][:60]!r}"
        )
    if alike := len(texts) - len(distinct):
        reporter.info(
            f"{what}: {alike} names have the text of another name; images of the two can't be distinguished, and the "
            "first of them is predicted"
        )
    return TextSummary(
        str(encoder.name), published.name, encoder.space.key, len(texts), len(distinct) - len(missing), len(missing),
        tuple(cut), len(encoder.templates), round(time.monotonic() - started, 3), str(store.root),
    )  # fmt: skip


def checked_texts(texts: Mapping[str, str] | Iterable[str]) -> dict[str, str]:
    """Name → text, both in NFC without white space around. Errors: BBError for one that is empty or stands twice."""
    pairs = list(texts.items()) if isinstance(texts, Mapping) else [(text, text) for text in texts]
    found: dict[str, str] = {}
    for number, (name, text) in enumerate(pairs, 1):
        key, value = normalised(name), normalised(text)
        if not key or not value:
            raise BBError(f"name {number} is empty: every class needs a name in words.")
        if key in found:
            raise BBError(f"the name {key!r} stands twice: give each class one row.")
        found[key] = value
    if not found:
        raise BBError("no names: give a name on each line.")
    return found


def parse_templates(given: str | Sequence[str]) -> tuple[str, ...]:
    """The templates of a set's name, of a file with one on each line, or as they are.

    Errors: UsageError for an unknown name and for a template without {}; BBError where a file can't be read.
    """
    if isinstance(given, str):
        if given in SETS:
            return SETS[given]
        path = Path(given)
        if not path.is_file():
            known = ", ".join(SETS)
            raise UsageError(f"--templates {given!r} is none of {known} and not a file with a template on each line.")
        try:
            given = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except (UnicodeDecodeError, OSError) as error:
            raise BBError(f"{path} can't be read: {error}. Save it as UTF-8.") from None
    listed = tuple(dict.fromkeys(given))
    if not 0 < len(listed) <= TEMPLATES:
        raise UsageError(f"there are {len(listed)} templates: give 1 to {TEMPLATES}.")
    if wrong := [template for template in listed if template.count(SLOT) != 1]:
        raise UsageError(f"the template {wrong[0]!r} must have {SLOT} once, where the name goes.")
    return listed
