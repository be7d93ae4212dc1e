"""The shapes of the API's answers, which OpenAPI describes."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Fault(BaseModel):
    """Why there is no other answer."""

    error: str = Field(description="one line")


class Health(BaseModel):
    """The server answers."""

    status: str


class Member(BaseModel):
    """One model of an ensemble; its weight is a share of 1, the findings' mean where they have their own."""

    name: str
    weight: float


class JudgedSplit(BaseModel):
    """The images that the model was judged on."""

    strategy: str
    name: str
    images: int
    patients: int


class Interval(BaseModel):
    """A value and its 95 % interval; null where undefined."""

    value: float | None
    low: float | None
    high: float | None


class Thresholds(BaseModel):
    """From which probability on a finding is called; null where none could be chosen."""

    name: str
    of: dict[str, float | None]


class Model(BaseModel):
    """What predicts here, and how good it was where it was judged."""

    name: str
    kind: str = Field(description="run or ensemble")
    members: list[Member]
    findings: list[str]
    split: JudgedSplit | None
    auroc: dict[str, Interval] | None
    macro_auroc: Interval | None
    thresholds: Thresholds | None
    calibrated: bool
    side_px: int
    phantom: bool
    limits: list[str]
    has_samples: bool
    has_heatmaps: bool
    max_upload_bytes: int
    notice: str
    version: str
    sha256: str


class Finding(BaseModel):
    """What is said of one finding; probability, threshold and members are on one scale, the model's own."""

    finding: str
    probability: float
    calibrated: float | None = Field(description="the calibrated probability; null: nothing is calibrated")
    threshold: float | None
    called: bool
    members: list[float] = Field(description="each member's probability, in the order of `/api/model`")


class Picture(BaseModel):
    """The picture as the model sees it."""

    side_px: int


class Box(BaseModel):
    """A box that a radiologist drew; all numbers are shares of the side, from the upper left corner."""

    finding: str
    x: float
    y: float
    width: float
    height: float


class Prediction(BaseModel):
    """What the model says of a picture."""

    id: str = Field(description="by which its heat maps are asked for, for some minutes")
    picture: Picture
    findings: list[Finding]
    truth: dict[str, bool] | None
    boxes: list[Box]
    notice: str


class Sample(BaseModel):
    """An image of the data set's test split."""

    id: str
    findings: list[str]
    view: str
    sex: str


class SamplePrediction(Prediction):
    """A sample's prediction beside what the data set says of it."""

    view: str
    sex: str


class SampleList(BaseModel):
    """Some of the samples that were asked for, and how many there are."""

    total: int
    samples: list[Sample]
