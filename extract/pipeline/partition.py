"""Parts of the work: which images are whose, decided by their digests alone, so that nobody has to ask anybody."""

from dataclasses import dataclass

from bb.store import UsageError


@dataclass(frozen=True)
class Partition:
    """Part `number` (from 1) of `of`: the images whose digest's first eight bytes, as a number, leave number - 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "Partition":
        """`--part` I/N. Raises UsageError for anything else."""
        number, slash, of = text.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise UsageError(f"--part {text} is not a part: write, for example, --part 1/8 for the first of eight.")
        return cls(int(number), int(of))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def holds(self, image_sha256: bytes) -> bool:
        return int.from_bytes(image_sha256[:8], "big") % self.of == self.number - 1

    def split(self, n: int) -> "list[Partition]":
        """This part in n parts, each as even as the digests are."""
        return [Partition(self.number + self.of * i, self.of * n) for i in range(n)]


WHOLE = Partition(1, 1)
