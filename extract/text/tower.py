"""The text tower of an open_clip network with its tokenizer, and vectors of texts by templates.

A class's vector is w = normalize(mean over templates t of normalize(text(t(class)))), as in CLIP (Radford et al., 2021,
section 3.1.4) and open_clip's `build_zero_shot_classifier`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import open_clip.model
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from bb.extract.embedding.freeze import freeze
from bb.extract.text.tokenizer import Tokenizer
from bb.store.errors import BBError

BATCH = 256  # filled templates that are encoded at once
SLOT = "{}"  # of a template, where the text stands


@dataclass(frozen=True, eq=False)
class TextVectors:
    """Of some texts.

    x    (n, d) float32 unit vectors
    cut  how many filled templates of each text were longer than the tower takes, and lost their end
    """

    x: Float32[np.ndarray, "n d"]
    cut: Int64[np.ndarray, " n"]


class TextTower:
    """Encodes texts. It is frozen, float32, and on the CPU until `to` moves it.

    module        one of open_clip's, a torch.nn.Module, with its weights
    architecture  its resolved configuration, JSON-ready
    """

    def __init__(self, module: Any, architecture: dict[str, Any], tokenizer: Tokenizer) -> None:
        freeze(module)
        self.module = module
        self.architecture = architecture
        self.tokenizer = tokenizer
        self.length: int = tokenizer.length
        self.device = torch.device("cpu")
        if tokenizer.vocabulary > self.module.vocab_size:
            raise BBError(f"the network knows {self.module.vocab_size} tokens, fewer than its tokenizer makes.")

    @property
    def dim(self) -> int:
        """Length of a vector."""
        dim: int = self.module.output_dim
        return dim

    def to(self, device: torch.device) -> "TextTower":
        self.module.to(device)
        self.device = device
        return self

    def encode(self, tokens: Int64[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        """What open_clip's `encode_text` gives, before normalisation."""
        with torch.inference_mode():
            found = self.module(tokens.to(self.device))
        return found[0] if isinstance(found, tuple) else found

    def vectors(self, texts: Sequence[str], templates: Sequence[str]) -> TextVectors:
        """A vector for each text. Errors: BBError where one is not finite."""
        rows, cuts = [], []
        step = max(1, BATCH // len(templates))
        for start in range(0, len(texts), step):
            some = texts[start : start + step]
            filled = [template.replace(SLOT, text) for text in some for template in templates]
            parts = []
            for begin in range(0, len(filled), BATCH):
                tokens, cut = self.tokenizer.tokens(filled[begin : begin + BATCH])
                parts.append(nn.functional.normalize(self.encode(tokens), dim=-1))
                cuts += cut
            x = torch.cat(parts).reshape(len(some), len(templates), -1).mean(dim=1)
            rows.append(nn.functional.normalize(x, dim=-1).cpu().numpy())
        x_ND = np.ascontiguousarray(np.concatenate(rows), np.float32)
        if bad := np.flatnonzero(~np.isfinite(x_ND).all(axis=1)).tolist():
            raise BBError(f"the vector of {texts[bad[0]]!r} is not finite: the network's weights are damaged.")
        return TextVectors(x_ND, np.array(cuts, np.int64).reshape(len(texts), -1).sum(axis=1))


def build(embed_dim: int, config: dict[str, Any], quick_gelu: bool) -> tuple[nn.Module, dict[str, Any]]:
    """A text tower of open_clip with random weights, and its resolved configuration, JSON-ready."""
    resolved = open_clip.model.CLIPTextCfg(**config)
    record = asdict(resolved)
    for name in ("output_tokens", "hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs"):
        del record[name]  # none changes a vector; the tokenizer stands in the view
    module = open_clip.model._build_text_tower(embed_dim, resolved, quick_gelu)
    return module, json.loads(json.dumps({"embed_dim": embed_dim, "quick_gelu": quick_gelu, **record}))
