"""What a model can make, at the door: a request becomes a sequence with all its lengths, or an error says why not."""

from __future__ import annotations

from models.config import ModelConfig
from models.engine.prompts import prompt_codes
from models.engine.sequence import Row, Sequence
from models.engine.windows import windows_of
from models.engine_config import EngineConfig
from models.errors import InvalidRequestError
from models.style_prompt import HeardStyle
from models.types import AudioPrompt, CodePrompt, GenerationRequest


def sequence_of(
    request: GenerationRequest, model: ModelConfig, config: EngineConfig, lag: int, prefix: int = 0
) -> Sequence[Row]:
    """The request on its way through an engine.

    Args:
        lag, prefix: see `Sequence`.

    Raises:
        InvalidRequestError: naming the parameter that this model or this engine can not honour.
    """
    _check_melody(request, model)
    _check_style(request, model)
    frames = _frames(request, model, config)
    known = _known_frames(request, frames, model)
    windows = windows_of(frames, known, model.max_frames, _stride(request, frames, model))
    sequence = Sequence[Row](request, frames, max(model.decoder.delays), lag, windows=windows, prefix=prefix)
    sequence.fill_share = max(1, config.prefill_rows // sequence.num_rows)
    return sequence


def _check_melody(request: GenerationRequest, model: ModelConfig) -> None:
    if request.melody is None:
        return
    if not model.takes_melody:
        raise InvalidRequestError("this model can not follow a melody: leave it out, or ask a melody model", "melody")
    if isinstance(request.melody, AudioPrompt) and request.melody.sample_rate != model.sample_rate:
        raise InvalidRequestError(
            f"the melody has {request.melody.sample_rate} samples a second, this model takes {model.sample_rate}: "
            "resample it",
            param="melody",
        )


def _check_style(request: GenerationRequest, model: ModelConfig) -> None:
    style = request.style
    if request.sampling.guidance_beta is not None and request.melody is None and style is None:
        raise InvalidRequestError(
            "guidance_beta weighs the text against a melody or style, and there is none: leave it out", "guidance_beta"
        )
    if style is None:
        return
    if model.style is None:
        raise InvalidRequestError("this model can not take a style: leave it out, or ask a style model", "style")
    if isinstance(style, HeardStyle):
        return
    if style.audio.sample_rate != model.sample_rate:
        raise InvalidRequestError(
            f"the style has {style.audio.sample_rate} samples a second, this model takes {model.sample_rate}: "
            "resample it",
            param="style",
        )
    if style.streams is not None and style.streams > model.style.streams:
        raise InvalidRequestError(
            f"style_streams is {style.streams}, this model has {model.style.streams}", param="style_streams"
        )


def _frames(request: GenerationRequest, model: ModelConfig, config: EngineConfig) -> int:
    duration, longest, shortest = request.duration_s, config.longest_s, 1 / model.frame_rate
    frames = int(duration * model.frame_rate)
    if duration > longest:
        raise InvalidRequestError(f"duration is {duration} s, at most {longest} s are possible", param="duration")
    if frames < 1:
        raise InvalidRequestError(f"duration is {duration} s, one frame is {shortest} s", param="duration")
    return frames


def _known_frames(request: GenerationRequest, frames: int, model: ModelConfig) -> int:
    """Frames of the music the request goes on from, or that was made of it already."""
    begins_with = request.begins_with
    if begins_with is None:
        return 0
    rate = model.frame_rate
    if isinstance(begins_with, CodePrompt):
        known = prompt_codes(begins_with, model.decoder).shape[1]
    else:
        known = -(-begins_with.num_samples // model.codec.hop_length)
    if known > model.max_frames and request.resumes is None:
        raise InvalidRequestError(
            f"the music to go on from is {known / rate:g} s long, at most {model.max_duration_s:g} s can be used",
            param="continue",
        )
    if known >= frames:
        raise InvalidRequestError(
            f"the music to go on from is {known / rate:g} s long and counts toward the duration: ask for more than "
            f"that, not for {request.duration_s:g} s",
            param="duration",
        )
    return known


def _stride(request: GenerationRequest, frames: int, model: ModelConfig) -> int:
    """Frames from one window to the next; without meaning for a track of one."""
    if frames <= model.max_frames:
        return 1
    stride = int(request.extend_stride_s * model.frame_rate)
    if not 0 < stride < model.max_frames:
        raise InvalidRequestError(
            f"extend_stride is {request.extend_stride_s:g} s, it must be at least {1 / model.frame_rate:g} s and below "
            f"{model.max_duration_s:g} s",
            param="extend_stride",
        )
    return stride
