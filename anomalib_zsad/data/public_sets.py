# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Datamodules of the field's public data sets that anomalib lacks.

Each takes the arguments of :class:`~anomalib_zsad.data.field.FieldDataModule`, and its docstring ends with the layout,
the published counts, the source and the terms (:meth:`anomalib_zsad.data.layouts.Layout.facts`).
"""

from anomalib_zsad.data.field import FieldDataModule
from anomalib_zsad.data.known_sets import SETS


class KSDD2(FieldDataModule):
    """KolektorSDD2: metal surfaces, some scratched or spotted; the mask alone tells which.

    The archive holds one image and its mask a second time, as ``10301 (copy).png``; they are left out. Bayes-PFL tests
    on a choice of its own, all 356 defective images of both splits and as many normal ones; its index file is read by
    :class:`~anomalib_zsad.data.MetaJson`.
    """

    layout = SETS["KSDD2"]


class RSDD(FieldDataModule):
    """RSDDs: long strips of rail heads, 160 x 1000 (type I) and 55 x 1250 pixels (type II), all with a defect.

    The strips are cut into squares when they are read: a square is anomalous if the mask marks a pixel of it, and the
    others are the normal images. Bayes-PFL's 387 and 387 are random crops, which cannot be made again.
    """

    layout = SETS["RSDD"]


class DAGM(FieldDataModule):
    """DAGM 2007: ten generated textures, with ellipses around the defects for masks.

    ``category="seven"`` stands for Class1, 2, 3, 4, 5, 7 and 8, those that Bayes-PFL tests on. That paper labelled and
    cropped them again by hand; its own files are read by :class:`~anomalib_zsad.data.MetaJson`.
    """

    layout = SETS["DAGM"]


class DTDSynthetic(FieldDataModule):
    """DTD-Synthetic: twelve textures with synthetic defects."""

    layout = SETS["DTDSynthetic"]


class MADSim(FieldDataModule):
    """MAD-Sim: twenty rendered toy animals from many sides, with burrs, stains and missing parts."""

    layout = SETS["MADSim"]


class MADReal(FieldDataModule):
    """MAD-Real: ten toy animals, photographed, each with one kind of defect.

    Normal images have masks, too, which are empty. A number before a folder's name does not matter.
    """

    layout = SETS["MADReal"]


class AITEX(FieldDataModule):
    """AITEX (AFID): seven fabrics in strips of 4096 x 256 pixels, with twelve kinds of defect.

    The strips are cut into squares of 256 pixels when they are read: a square is anomalous if the mask marks a pixel of
    it, and the rest, of the defective strips too, is normal. There is no official split, so all is test. Where a strip
    has two masks they are united. A defective strip without mask, or with an empty one, is left out, as nothing is
    known of its squares; the 105th, of fabric 08, is one of these and not counted. Many strips end in a white margin.
    """

    layout = SETS["AITEX"]


class HeadCT(FieldDataModule):
    """HeadCT: slices of head scans with and without bleeding; labels only, in a table."""

    layout = SETS["HeadCT"]


class BrainMRI(FieldDataModule):
    """BrainMRI: slices of brain scans with and without tumour, labels only.

    File types are mixed and so is the case of their names. Where a loader finds 153 images (85 and 68, as in
    Bayes-PFL's index), it looked for ``.jpg`` of the one kind and ``.JPG`` of the other.
    """

    layout = SETS["BrainMRI"]


class Br35H(FieldDataModule):
    """Br35H: slices of brain scans with and without tumour, labels only."""

    layout = SETS["Br35H"]


class ISIC(FieldDataModule):
    """ISIC 2016, task 1: photographs of skin, each with a lesion."""

    layout = SETS["ISIC"]


class ColonDB(FieldDataModule):
    """CVC-ColonDB: frames of colonoscopies, each with a polyp."""

    layout = SETS["ColonDB"]


class ClinicDB(FieldDataModule):
    """CVC-ClinicDB: frames of colonoscopies, each with a polyp.

    The folders may be called ``Original`` and ``Ground Truth``, as in the first archive.
    """

    layout = SETS["ClinicDB"]


class CVC300(FieldDataModule):
    """CVC-300: frames of colonoscopies, each with a polyp."""

    layout = SETS["CVC300"]


class Kvasir(FieldDataModule):
    """Kvasir-SEG: frames of colonoscopies, each with a polyp; masks are JPEG files."""

    layout = SETS["Kvasir"]


class Endo(FieldDataModule):
    """EndoTect 2020: frames of endoscopies, each with a polyp."""

    layout = SETS["Endo"]


class TN3K(FieldDataModule):
    """TN3K: ultrasound pictures of thyroid glands, each with a nodule.

    These are the 614 test images, as the field tests on them; the other 2879 show nodules, too, and are not read.
    """

    layout = SETS["TN3K"]
