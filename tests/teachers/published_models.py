"""Small real models as their libraries write them, whose classes are the digits in another order."""

import logging
from pathlib import Path
from typing import Any

import torch

ORDER = [3, 1, 4, 5, 9, 2, 6, 8, 7, 0]  # of the digits among the outputs
NAMES = [str(k) for k in ORDER]


def vit(folder: Path, **changed: Any) -> Any:
    """A vision transformer of transformers, with its image processor."""
    import transformers

    transformers.utils.logging.set_verbosity(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(1)
    about = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8,
        id2label=dict(enumerate(NAMES)), initializer_range=0.5, **changed,
    )  # fmt: skip
    model = transformers.ViTForImageClassification(about).eval()
    model.save_pretrained(folder)
    processor = transformers.ViTImageProcessor(
        size={"height": 16, "width": 16}, image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 0.6, 0.7]
    )
    processor.save_pretrained(folder)
    return model, processor


def resnet(folder: Path) -> Any:
    """A residual network of timm."""
    import timm
    from timm.models import save_for_hf

    torch.manual_seed(2)
    model = timm.create_model("test_resnet", num_classes=10).eval()
    about = {"label_names": [f"digit_{name}" for name in NAMES]}
    save_for_hf(model, str(folder), model_config=about, safe_serialization=True)
    return model
