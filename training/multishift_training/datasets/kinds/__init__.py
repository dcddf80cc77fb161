# SPDX-License-Identifier: Apache-2.0
"""The data sets, a file for each family: description, files and labels side by side.

A new one is a class like those beside this file, and a line below; or, in a program or package of
one's own, the same class given to ``register`` (see docs/extending.md).
"""

from __future__ import annotations

from multishift_training.datasets.kinds.acdc_poc import AcdcPocData
from multishift_training.datasets.kinds.base import ImageSet
from multishift_training.datasets.kinds.bdd100k import Bdd100kData
from multishift_training.datasets.kinds.camvid import CamvidData
from multishift_training.datasets.kinds.cityscapes import CityscapesData, MultishiftCityscapesData
from multishift_training.datasets.kinds.fishyscapes import (
    FishyscapesLostFoundData,
    FishyscapesStaticData,
)
from multishift_training.datasets.kinds.folder import FolderData
from multishift_training.datasets.kinds.gtav import GtavData
from multishift_training.datasets.kinds.idd import IddData
from multishift_training.datasets.kinds.idd_lite import IddLiteData
from multishift_training.datasets.kinds.lums_road import LumsRoadData
from multishift_training.datasets.kinds.mapillary import MapillaryData
from multishift_training.datasets.kinds.muad import MuadData
from multishift_training.datasets.kinds.registry import (
    KINDS,
    ImageData,
    kinds,
    partner_kinds,
    register,
)
from multishift_training.datasets.kinds.road_anomaly import RoadAnomalyData
from multishift_training.datasets.kinds.sample_drive import SampleDriveData
from multishift_training.datasets.kinds.smiyc import RoadAnomaly21Data, RoadObstacle21Data
from multishift_training.datasets.kinds.synthia import SynthiaData

register(CityscapesData)
register(MultishiftCityscapesData)
register(RoadAnomalyData)
register(RoadAnomaly21Data)
register(RoadObstacle21Data)
register(FishyscapesLostFoundData)
register(FishyscapesStaticData)
register(AcdcPocData)
register(MuadData)
register(CamvidData)
register(IddLiteData)
register(LumsRoadData)
register(GtavData)
register(SynthiaData)
register(IddData)
register(Bdd100kData)
register(MapillaryData)
register(SampleDriveData)
register(FolderData)

__all__ = [
    'KINDS',
    'AcdcPocData',
    'Bdd100kData',
    'CamvidData',
    'CityscapesData',
    'FishyscapesLostFoundData',
    'FishyscapesStaticData',
    'FolderData',
    'GtavData',
    'IddData',
    'IddLiteData',
    'ImageData',
    'ImageSet',
    'LumsRoadData',
    'MapillaryData',
    'MuadData',
    'MultishiftCityscapesData',
    'RoadAnomaly21Data',
    'RoadAnomalyData',
    'RoadObstacle21Data',
    'SampleDriveData',
    'SynthiaData',
    'kinds',
    'partner_kinds',
    'register',
]
