"""A stored config, read as plain YAML: whoever made the file."""

from pathlib import Path
from typing import Any

import yaml

LARGEST = 1 << 22  # bytes: ten times one with the 21,841 classes of ImageNet-21k
DEPTH = 50  # of a config


def read_yaml(path: Path) -> Any:
    """Return its content; OSError, ValueError or yaml.YAMLError for what is no config of kd."""
    if path.stat().st_size > LARGEST:
        raise ValueError("it is too large")
    return yaml.load(path.read_text("utf-8"), Loader=_Plain)


class _Plain(yaml.SafeLoader):
    """YAML without aliases, of which a few lines can make gigabytes, and without depth."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it holds an alias")
        self.depth += 1
        if self.depth > DEPTH:
            raise yaml.YAMLError("it is nested too deeply")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node
