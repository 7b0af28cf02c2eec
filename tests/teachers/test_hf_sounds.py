"""Sound classifiers of transformers as teachers: what they are shown is what their own feature extractor makes."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sound_files
import torch
import transformers
from running import inside

from kd_cli.data.spec import Spec
from kd_cli.errors import KdError
from kd_cli.models.hf import hf

RATE, NAMES = 8000, ["mid", "low", "high"]  # another order than the data set's
SPEC = Spec("audio", (2400,), sample_rate=RATE)


def saved(folder: Path, model: Any, extractor: Any) -> Any:
    transformers.utils.logging.set_verbosity(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    model.eval().save_pretrained(folder)
    extractor.save_pretrained(folder)
    return model, extractor


def wav2vec2(folder: Path, attends: bool = False) -> Any:
    torch.manual_seed(1)
    about = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8, 8),
        conv_stride=(5, 4), conv_kernel=(10, 8), num_feat_extract_layers=2, num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, classifier_proj_size=8, id2label=dict(enumerate(NAMES)),
        feat_extract_norm="layer" if attends else "group", do_stable_layer_norm=attends, initializer_range=0.5,
    )  # fmt: skip
    extractor = transformers.Wav2Vec2FeatureExtractor(sampling_rate=RATE, return_attention_mask=attends)
    return saved(folder, transformers.Wav2Vec2ForSequenceClassification(about), extractor)


def spectrogram_transformer(folder: Path) -> Any:
    torch.manual_seed(2)
    about = transformers.ASTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, patch_size=8, max_length=32,
        num_mel_bins=16, time_stride=8, frequency_stride=8, id2label=dict(enumerate(NAMES)), initializer_range=0.5,
    )  # fmt: skip
    extractor = transformers.ASTFeatureExtractor(sampling_rate=RATE, num_mel_bins=16, max_length=32)
    return saved(folder, transformers.ASTForAudioClassification(about), extractor)


@pytest.mark.parametrize("make", [wav2vec2, spectrogram_transformer])
def test_it_answers_as_its_own_library_has_it_answer(make: Any, tmp_path: Path) -> None:
    theirs, extractor = make(tmp_path)
    waves = [sound_files.tone(hertz, RATE, 0.3) for hertz in (300, 900, 2200)]
    with torch.inference_mode():
        wanted = theirs(**extractor(waves, sampling_rate=RATE, return_tensors="pt")).logits
        ours = hf(None, SPEC, str(tmp_path)).eval()(torch.from_numpy(np.stack(waves)))
    assert torch.allclose(ours, wanted, atol=1e-4)
    assert float(wanted.std(0).max()) > 1e-3


@pytest.mark.parametrize("attends", [False, True])
def test_sounds_of_different_lengths_are_masked_as_its_own_library_masks_them(attends: bool, tmp_path: Path) -> None:
    theirs, extractor = wav2vec2(tmp_path, attends)
    waves = [sound_files.tone(300, RATE, 0.3), sound_files.tone(900, RATE, 0.2)]
    padded = torch.zeros(2, 2400)
    for k, wave in enumerate(waves):
        padded[k, : len(wave)] = torch.from_numpy(wave)
    mask = torch.zeros(2, 2400)
    mask[0], mask[1, :1600] = 1, 1
    spec = Spec("audio", (2400,), sample_rate=RATE, parts=("mask", "sound"))
    with torch.inference_mode():
        wanted = theirs(**extractor(waves, sampling_rate=RATE, padding=True, return_tensors="pt")).logits
        ours = hf(None, spec, str(tmp_path)).eval()({"sound": padded, "mask": mask})
    assert torch.allclose(ours, wanted, atol=1e-4)


def test_what_is_no_waveform_of_its_rate_is_refused(tmp_path: Path) -> None:
    wav2vec2(tmp_path)
    with pytest.raises(KdError, match=r"dataset.rate must be 8000, which its sounds were recorded at, got 16000 with"):
        hf(None, Spec("audio", (2400,), sample_rate=16000), str(tmp_path))


def test_it_teaches_a_student_and_is_one(tmp_path: Path) -> None:
    sound_files.folders(tmp_path / "data", each=2)
    wav2vec2(tmp_path / "published")
    data = ("dataset=audio_folder", "dataset.root=data", f"dataset.rate={RATE}", "dataset.seconds=0.2")
    words = ("dataset.features=waveform", "student=cnn1d_small", "student.train.epochs=1", "student.model.channels=[8]")
    done = inside("distill", *data, *words, "teacher=hf", "teacher.name=published", "baseline=false", cwd=tmp_path)
    assert done.result["teacher"]["n"] == 5
    own = ("student=hf", "student.model.name=published", "student.train.epochs=1", "dataset.features=waveform")
    further = inside("distill", *data, *own, "teacher=hf", "teacher.name=published", "baseline=false", cwd=tmp_path)
    path = f"path=outputs/{further.result['student']['artifact']}"
    predicted = inside("predict", path, "sounds=data/low", cwd=tmp_path)
    assert predicted.status == 0, predicted.err
    assert len(predicted.out.splitlines()) == 9
    refused = inside("distill", *data, "teacher=hf", "teacher.name=published", "student=cnn1d_small", cwd=tmp_path)
    assert refused.status == 1
    assert "transformers" in refused.err
    assert "Traceback" not in refused.err
