"""What makes tokens of a text: open_clip's own tokenizer, or the tokenizer.json of a network on the Hugging Face hub.

The latter are the tokens of open_clip's `HFTokenizer`, without the library that this needs: the text is cleaned as
there, `tokenizers` encodes it with the begin and end that the file has, and the rest is padding.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from open_clip.tokenizer import SimpleTokenizer, default_bpe, get_clean_fn
from torch import Tensor

from bb.store.errors import BBError

FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"


@runtime_checkable
class Tokenizer(Protocol):
    """Tokens of texts, for a tower that takes `length` of them; `vocabulary` is one more than the largest."""

    length: int
    vocabulary: int

    def record(self) -> dict[str, Any]:
        """What decides the tokens, JSON-ready."""
        ...

    def is_empty(self, text: str) -> bool:
        """Whether nothing of a text is left as tokens."""
        ...

    def tokens(self, texts: Sequence[str]) -> tuple[Int64[Tensor, "n l"], list[bool]]:
        """Token IDs with their begin and end, padded, and whether a text was cut to the tower's length."""
        ...


class OpenClipTokenizer:
    """open_clip's SimpleTokenizer, which is CLIP's. Fulfils Tokenizer."""

    def __init__(self, length: int, clean: str = "lower") -> None:
        self.length, self.clean = length, clean
        self._own = SimpleTokenizer(context_length=length, clean=clean)
        self.vocabulary = int(self._own.vocab_size)

    def record(self) -> dict[str, Any]:
        return {
            "name": "open_clip.SimpleTokenizer",
            "vocabulary": hashlib.sha256(Path(default_bpe()).read_bytes()).hexdigest(),
            "clean": self.clean,
            "context_length": self.length,
        }

    def is_empty(self, text: str) -> bool:
        return not self._own.encode(text)

    def tokens(self, texts: Sequence[str]) -> tuple[Int64[Tensor, "n l"], list[bool]]:
        ids, cut = torch.zeros(len(texts), self.length, dtype=torch.long), []
        for row, text in zip(ids, texts, strict=True):
            own = self._own.encode(text)
            cut.append(len(own) > self.length - 2)
            own = [self._own.sot_token_id, *own[: self.length - 2], self._own.eot_token_id]
            row[: len(own)] = torch.tensor(own)
        return ids, cut


class FileTokenizer:
    """The tokenizer of a folder with tokenizer.json and tokenizer_config.json. Fulfils Tokenizer.

    clean      as open_clip has it: "whitespace", "lower" or "canonicalize"
    strip_sep  whether the end of a text is 0, as open_clip's `strip_sep_token`

    Errors: BBError for files that the library `tokenizers` can't read, and where they name no padding.
    """

    def __init__(self, folder: Path, length: int, clean: str = "whitespace", strip_sep: bool = False) -> None:
        import tokenizers

        self.length, self.clean, self._clean = length, clean, get_clean_fn(clean)
        try:
            text = (folder / FILE).read_text(encoding="utf-8")
            config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            self._whole, self._cut = (tokenizers.Tokenizer.from_str(text) for _ in range(2))
        except Exception as error:  # the library raises Exception itself
            raise BBError(
                f"the tokenizer in {folder} can't be read ({str(error) or type(error).__name__}): it needs {FILE} and "
                f"{CONFIG} as the network's repository has them."
            ) from None
        for own in (self._whole, self._cut):
            own.no_padding()
            own.no_truncation()
        self._cut.enable_truncation(length)
        pad, self._end = self._id(config, "pad_token"), self._id(config, "sep_token") if strip_sep else None
        if pad is None or config.get("padding_side", "right") != "right":
            raise BBError(f"{folder / CONFIG} names no pad_token of {FILE} on the right: bb can't fill short texts.")
        self.pad = pad
        self.vocabulary = int(self._whole.get_vocab_size())
        self._digest = hashlib.sha256(text.encode()).hexdigest()

    def _id(self, config: dict[str, Any], name: str) -> int | None:
        """The number of a special token, whose name stands in the configuration alone or in a record."""
        token = config.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        found: int | None = self._whole.token_to_id(token) if isinstance(token, str) else None
        return found

    def record(self) -> dict[str, Any]:
        return {
            "name": FILE,
            "vocabulary": self._digest,
            "clean": self.clean,
            "context_length": self.length,
            "pad": self.pad,
            "zeroed": self._end,
        }

    def is_empty(self, text: str) -> bool:
        return not self._whole.encode(self._clean(text), add_special_tokens=False).ids

    def tokens(self, texts: Sequence[str]) -> tuple[Int64[Tensor, "n l"], list[bool]]:
        ids, cut = torch.full((len(texts), self.length), self.pad, dtype=torch.long), []
        for row, text in zip(ids, map(self._clean, texts), strict=True):
            own = self._whole.encode(text).ids
            cut.append(len(own) > self.length)
            own = self._cut.encode(text).ids if cut[-1] else own
            row[: len(own)] = torch.tensor(own)
        if self._end is not None:
            ids[ids == self._end] = 0
        return ids, cut
