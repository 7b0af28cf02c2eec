"""What mkdocs calls: the generated pages join those that are written, and none of them lies on the disk."""

from gallery import gallery
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from reference import pages


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of the code."""
    for path, text in {**pages(), "gallery.md": gallery()}.items():
        files.append(File.generated(config, path, content=text))
    return files
