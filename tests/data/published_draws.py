"""Draws by the published hash, one at a time: what the fast ones are compared with."""

WORD = (1 << 64) - 1


def splitmix(value: int) -> int:
    """The finaliser of SplitMix64 as published, on Python's integers."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & WORD
    return value ^ (value >> 31)


def draw(index: int, seed: int, view: int, k: int) -> float:
    """Draw k (counted from 1) of a sample."""
    golden = 0x9E3779B97F4A7C15
    base = splitmix((splitmix((seed * 0xD1342543DE82EF95 + (view + 1) * golden) & WORD) + index) & WORD)
    return (splitmix((base + k * golden) & WORD) >> 40) / 2**24
