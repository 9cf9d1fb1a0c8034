"""What is known of a track's audio when it is done, said in the same words wherever a track is shown."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

Duration: TypeAlias = Annotated[float | None, Field(description="Seconds, exact")]
SampleRate: TypeAlias = Annotated[int | None, Field(description="Hz")]
Channels: TypeAlias = int | None
TotalSamples: TypeAlias = Annotated[int | None, Field(description="Samples per channel")]
Sha256: TypeAlias = Annotated[
    str | None, Field(description="Of the float32 samples, as format wav32f has them after its header")
]
Loudness: TypeAlias = Annotated[float | None, Field(description="Integrated loudness (BS.1770); null also for silence")]
Peak: TypeAlias = Annotated[float | None, Field(description="Largest sample, without sign; 1 is full scale")]
