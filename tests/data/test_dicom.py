"""DICOM files: windows, inversion, colours and frames, each against the values by hand."""

import struct

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
)

from bayes_pfl.data import dicom
from bayes_pfl.data.image_files import find_images, list_files, readable_suffixes
from bayes_pfl.data.images import SEVERAL, read_image
from bayes_pfl.data.pages import Picture, find_pictures, pictures_of
from bayes_pfl.errors import DataError, ImageReadError
from tests.helpers.dicom import write_dicom

CT = {"RescaleSlope": 1, "RescaleIntercept": -1024}


@pytest.fixture
def ct():
    """12 bits in 16, as a scanner stores them; 0 is -1024 HU."""
    return np.random.default_rng(0).integers(0, 4096, (30, 40)).astype(np.uint16)


def grey(path, **options):
    image = read_image(path, **options)
    values = np.asarray(image).astype(int)
    assert image.mode == "RGB" and (values == values[..., :1]).all()
    return values[..., 0]


def windowed(values, centre, width):
    """A linear window by hand, as the standard's LINEAR_EXACT has it, 0 to 255."""
    return np.clip((values - centre) / width + 0.5, 0, 1) * 255


def test_the_window_of_the_file_goes_over_its_rescaled_values(tmp_path, ct):
    path = write_dicom(
        tmp_path / "a.dcm", ct, BitsStored=12, WindowCenter=40, WindowWidth=400, **CT
    )
    wanted = windowed(ct.astype(float) - 1024, 39.5, 399)  # LINEAR: half a value, one less
    assert np.abs(grey(path) - wanted).max() <= 0.51
    several = {"WindowCenter": [40, 500], "WindowWidth": [400, 2000]}
    first = write_dicom(tmp_path / "b.dcm", ct, BitsStored=12, **several, **CT)
    assert np.array_equal(grey(first), grey(path))


def test_a_given_window_takes_the_place_of_that_of_the_file(tmp_path, ct):
    path = write_dicom(
        tmp_path / "a.dcm", ct, BitsStored=12, WindowCenter=40, WindowWidth=400, **CT
    )
    assert np.abs(grey(path, window=(500, 2000)) - windowed(ct - 1024.0, 500, 2000)).max() <= 0.51
    assert np.array_equal(
        np.asarray(Picture(path, window=(500, 2000)).read())[..., 0], grey(path, window=(500, 2000))
    )


def test_without_a_window_depths_are_scaled_as_of_other_files(tmp_path, ct):
    assert np.array_equal(grey(write_dicom(tmp_path / "a.dcm", ct)), ct >> 4)
    small = (ct >> 4).astype(np.uint8)
    assert np.array_equal(grey(write_dicom(tmp_path / "b.dcm", small)), small)
    hounsfield = grey(write_dicom(tmp_path / "c.dcm", ct, BitsStored=12, **CT))
    assert (hounsfield.min(), hounsfield.max()) == (0, 255)


@pytest.mark.parametrize("window", [None, (100, 50)])
def test_monochrome1_is_the_negative(tmp_path, window):
    values = np.random.default_rng(0).integers(0, 256, (30, 40)).astype(np.uint8)
    one = write_dicom(tmp_path / "1.dcm", values, PhotometricInterpretation="MONOCHROME1")
    two = write_dicom(tmp_path / "2.dcm", values, PhotometricInterpretation="MONOCHROME2")
    assert np.array_equal(grey(one, window=window), 255 - grey(two, window=window))


def test_a_table_of_values_is_applied(tmp_path):
    values = np.arange(64, dtype=np.uint8).reshape(8, 8)
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [64, 0, 16], [(64 - at) * 1000 for at in range(64)]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    path = write_dicom(tmp_path / "a.dcm", values, VOILUTSequence=[table])
    assert np.abs(grey(path) - (64 - values.astype(int)) * 1000 * 255 / 65535).max() <= 0.51


def test_a_sigmoid_window(tmp_path, ct):
    function = {"VOILUTFunction": "SIGMOID", "WindowCenter": 2000, "WindowWidth": 1000}
    path = write_dicom(tmp_path / "a.dcm", ct, BitsStored=12, **function)
    wanted = 255 / (1 + np.exp(-4 * (ct - 2000.0) / 1000))
    assert np.abs(grey(path) - wanted).max() <= 0.51


def test_colours(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    assert np.array_equal(np.asarray(read_image(write_dicom(tmp_path / "a.dcm", rgb))), rgb)
    entries = np.random.default_rng(1).integers(0, 256, (3, 256)).astype(np.uint8)
    palette = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, one in zip(("Red", "Green", "Blue"), entries, strict=True):
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 8]
        palette[f"{name}PaletteColorLookupTableData"] = one.tobytes()
    path = write_dicom(tmp_path / "p.dcm", rgb[..., 0].copy(), **palette)
    assert np.array_equal(np.asarray(read_image(path)), entries.T[rgb[..., 0]])
    ybr = write_dicom(
        tmp_path / "y.dcm",
        np.broadcast_to(np.uint8([100, 128, 128]), (8, 8, 3)).copy(),
        PhotometricInterpretation="YBR_FULL",
    )
    assert (np.asarray(read_image(ybr)) == 100).all()


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless], ids=lambda syntax: syntax.name)
def test_compressed_files(tmp_path, syntax):
    values = np.random.default_rng(0).integers(0, 256, (30, 40)).astype(np.uint8)
    path = write_dicom(tmp_path / "a.dcm", values)
    if syntax == RLELossless:
        made = pydicom.dcmread(path)
        made.compress(syntax)
        made.save_as(path)
    else:
        import io

        from PIL import Image
        from pydicom.encaps import encapsulate

        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, "JPEG2000", no_jp2=True)
        made = pydicom.dcmread(path)
        made.PixelData = encapsulate([buffer.getvalue()])
        made["PixelData"].is_undefined_length = True
        made.file_meta.TransferSyntaxUID = syntax
        made.save_as(path)
    assert np.array_equal(grey(path), values)


def test_each_frame_has_its_number_and_its_own_window(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (3, 30, 40)).astype(np.uint8)
    path = write_dicom(tmp_path / "a.dcm", frames)
    assert pictures_of(path) == [Picture(path, 1), Picture(path, 2), Picture(path, 3)]
    for picture, wanted in zip(pictures_of(path), frames, strict=True):
        assert np.array_equal(np.asarray(picture.read())[..., 0], wanted)
    assert read_image(path).info == {SEVERAL: "frames"}
    groups = []
    for centre in (50, 100, 200):
        window = Dataset()
        window.WindowCenter, window.WindowWidth = centre, 60
        window.VOILUTFunction = "LINEAR_EXACT"
        group = Dataset()
        group.FrameVOILUTSequence = [window]
        groups.append(group)
    path = write_dicom(tmp_path / "b.dcm", frames, PerFrameFunctionalGroupsSequence=groups)
    for page, (centre, wanted) in enumerate(zip((50, 100, 200), frames, strict=True), 1):
        found = grey(path, page=page)
        assert np.abs(found - windowed(wanted.astype(float), centre, 60)).max() <= 0.51


def test_a_cut_file_loses_the_frames_that_are_missing(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (4, 30, 40)).astype(np.uint8)
    path = write_dicom(tmp_path / "a.dcm", frames)
    path.write_bytes(path.read_bytes()[: -30 * 40 * 2])
    assert len(pictures_of(path)) == 4
    assert np.array_equal(grey(path, page=2), frames[1])
    with pytest.raises(ImageReadError, match="a.dcm, page 4: damaged or cut short"):
        read_image(path, page=4)


def _without_pixels(folder):
    return write_dicom(folder / "a.dcm", None)


def _unknown_compression(folder):
    path = write_dicom(folder / "a.dcm", np.zeros((8, 8), np.uint8))
    made = pydicom.dcmread(path)
    made.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    made.save_as(path)
    return path


def _deflated(folder):
    values = np.zeros((8, 8), np.uint8)
    return write_dicom(folder / "a.dcm", values, syntax=DeflatedExplicitVRLittleEndian)


def _odd_window(folder):
    values = np.zeros((8, 8), np.uint8)
    return write_dicom(folder / "a.dcm", values, WindowCenter=40, WindowWidth=0)


def _large(folder):
    values = np.zeros((8, 8), np.uint8)
    return write_dicom(folder / "a.dcm", values, Rows=60000, Columns=60000)


def _rubbish(folder):
    (folder / "a.dcm").write_bytes(bytes(128) + b"DICM" + bytes(100))
    return folder / "a.dcm"


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (_without_pixels, "without pixels, such as a report; leave it out"),
        (_unknown_compression, "compressed as JPEG Lossless.*no decoder.*python-gdcm"),
        (_deflated, "deflated DICOM files are not read"),
        (_odd_window, "its window cannot be used .*; give --window CENTRE,WIDTH"),
        (_large, "60000x60000 is more than 178956970 pixels"),
        (_rubbish, "a.dcm: "),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, write, reason):
    path = write(tmp_path)
    with pytest.raises(ImageReadError, match=reason) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_file_without_suffix_is_read_if_it_begins_as_dicom(tmp_path):
    values = np.zeros((8, 8), np.uint8)
    for name in ("IM000001", "1.2.840.113619.2", "a.DCM"):
        write_dicom(tmp_path / name, values)
    write_dicom(tmp_path / "DICOMDIR", None)
    (tmp_path / "Makefile").write_text("all:" + " " * 200)
    (tmp_path / "short.1").write_bytes(b"DICM")
    assert [path.name for path in find_images(tmp_path)] == [
        "1.2.840.113619.2",
        "IM000001",
        "a.DCM",
    ]


def test_without_pydicom_files_are_named_with_the_extra(tmp_path, monkeypatch):
    for name in ("IM000001", "a.dcm", "b.dicom"):
        write_dicom(tmp_path / name, np.zeros((8, 8), np.uint8))
    assert ".dcm" in readable_suffixes()
    monkeypatch.setattr(dicom, "can_read_dicom", lambda: False)
    assert ".dcm" not in readable_suffixes()
    assert list_files(tmp_path).remarks(tmp_path) == [
        f"{tmp_path}: files of kinds that are not read (.dcm .dicom DICOM): 3, first IM000001; "
        "pip install 'bayes-pfl[medical]' to read DICOM"
    ]
    with pytest.raises(DataError, match="no images; .* 3, first IM000001; pip install"):
        find_pictures(tmp_path)
    with pytest.raises(ImageReadError, match="needs pydicom; pip install 'bayes-pfl.medical.'"):
        read_image(tmp_path / "a.dcm")


def test_no_window_opens_a_file_that_is_no_dicom(tmp_path):
    (tmp_path / "a.dcm").write_bytes(struct.pack("<I", 7) * 90)
    with pytest.raises(ImageReadError, match="not an image, or of a kind unknown here"):
        read_image(tmp_path / "a.dcm", window=(40, 400))
