"""Sets of templates that a name is put into, `{}` in each."""

from open_clip import OPENAI_IMAGENET_TEMPLATES

from bb.extract.text.tower import SLOT

PLAIN = (SLOT,)
OPENAI = tuple(template(SLOT) for template in OPENAI_IMAGENET_TEMPLATES)
SETS = {"openai": OPENAI, "plain": PLAIN}
