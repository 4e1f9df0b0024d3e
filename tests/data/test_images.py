"""Reading pictures and masks of every kind."""

import io

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from bayes_pfl.data.image_files import find_images
from bayes_pfl.data.images import TURN, read_image, read_mask, read_received_image
from bayes_pfl.data.pixels import as_rgb, to_uint8
from bayes_pfl.errors import BayesPFLError, DataError, ImageReadError
from bayes_pfl.export.standalone.pictures import pages_of
from tests.bad_input import images as bad_images
from tests.helpers.dicom import write_dicom
from tests.helpers.stacks import cut, stack
from tests.helpers.turned import write_turned_tiff


@pytest.fixture
def picture():
    """uint8 (20, 30, 3), every quarter different: a wrong turn or channel order shows."""
    rows, columns = np.mgrid[:20, :30]
    return np.stack([rows * 10, columns * 8, 255 - rows * 5], axis=2).astype(np.uint8)


def save(folder, name, image, **options):
    path = folder / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F", "I;16"])
def test_every_mode_becomes_rgb_of_the_same_size(tmp_path, picture, mode):
    grey = Image.fromarray(picture).convert("L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        image = (grey if mode in ("I", "F") else Image.fromarray(picture)).convert(mode)
    path = save(tmp_path, "x y.tif", image)
    result = read_image(path)
    assert (result.mode, result.size) == ("RGB", (30, 20))
    if mode in ("L", "LA", "I", "F", "I;16"):
        assert np.abs(np.asarray(result)[..., 0].astype(int) - np.asarray(grey)).max() == 0


@pytest.mark.parametrize("extension", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_and_12_bit_files_equal_their_8_bit_picture(tmp_path, picture, extension, channels):
    wanted = picture if channels == 3 else np.repeat(picture[..., :1], 3, axis=2)
    stored = wanted[..., ::-1] if channels == 3 else wanted[..., 0]
    wanted[0, 0] = 255  # the brightest pixel tells the depth
    for scale in (257, 16):
        path = tmp_path / f"deep{scale}{extension}"
        assert cv2.imwrite(str(path), stored.astype(np.uint16) * scale)
        assert np.array_equal(np.asarray(read_image(path)), wanted)


def test_16_bit_rgba_keeps_its_depth_beside_an_opaque_alpha(tmp_path, picture):
    deep = np.dstack([picture[..., ::-1].astype(np.uint16) * 16, np.full((20, 30), 65535)])
    assert cv2.imwrite(str(tmp_path / "a.png"), deep.astype(np.uint16))
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.png")), picture)


def test_transparency_is_composited_on_white(tmp_path, picture):
    rgba = np.dstack([picture, np.zeros((20, 30), np.uint8)])
    rgba[5, 5, 3] = 255
    result = np.asarray(read_image(save(tmp_path, "a.png", Image.fromarray(rgba))))
    assert (result[0, 0] == 255).all() and np.array_equal(result[5, 5], picture[5, 5])
    palette = Image.fromarray(np.array([[0, 1]], np.uint8))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    path = save(tmp_path, "p.png", palette, transparency=0)
    assert np.asarray(read_image(path)).tolist() == [[[255, 255, 255], [40, 50, 60]]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_gives_the_upright_picture_once(tmp_path, picture, orientation):
    upright = Image.fromarray(picture)
    exif = Image.Exif()
    exif[0x0112] = orientation
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)
    stored = upright if inverse is None else upright.transpose(Image.Transpose(inverse))
    result = read_image(save(tmp_path, "turned.png", stored, exif=exif))
    assert np.array_equal(np.asarray(result), picture)
    assert np.array_equal(np.asarray(as_rgb(result)), picture)
    assert result.getexif().get(0x0112, 1) == 1


LOSSLESS = cv2.IMWRITE_JPEG2000_COMPRESSION_X1000
TIFF_KINDS = {
    "grey": lambda rgb: rgb[..., 0],
    "grey of 16 bits": lambda rgb: rgb[..., 0].astype(np.uint16) * 257,
    "colour": lambda rgb: rgb,
    "colour of 16 bits": lambda rgb: rgb.astype(np.uint16) * 257,
    "colour of floats": lambda rgb: (rgb / 255).astype(np.float32),
}


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kind", TIFF_KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_lies_as_its_tag_says(tmp_path, picture, orientation, kind, compression):
    values = TIFF_KINDS[kind](picture)
    path = write_turned_tiff(
        tmp_path / "a.tif", values, values[::-1], orientation=orientation, compression=compression
    )
    result = read_image(path)
    wanted = picture if values.ndim == 3 else np.repeat(picture[..., :1], 3, axis=2)
    assert np.array_equal(np.asarray(result), wanted)
    assert (TURN in result.info) == (orientation > 1)
    assert result.getexif().get(0x0112, 1) == 1
    assert np.array_equal(np.asarray(read_image(path, page=2)), wanted[::-1])
    received = read_received_image(path.read_bytes())
    assert np.array_equal(np.asarray(received), wanted)


@pytest.mark.parametrize("factor", [16, 257], ids=["12 of 16 bits", "16 bits"])
@pytest.mark.parametrize("suffix", [".jp2", ".ppm"])
def test_deep_colours_of_other_formats_equal_their_8_bit_picture(tmp_path, picture, suffix, factor):
    picture = np.tile(picture, (4, 4, 1))  # the encoder needs 32 pixels a side
    picture[0, 0] = 255
    path = tmp_path / f"a{suffix}"
    options = [LOSSLESS, 1000] if suffix == ".jp2" else []
    assert cv2.imwrite(str(path), picture[..., ::-1].astype(np.uint16) * factor, options)
    assert np.array_equal(np.asarray(read_image(path)), picture)
    assert np.array_equal(np.asarray(read_received_image(path.read_bytes())), picture)
    with pytest.raises(ValueError, match="16 bits a channel in colour: bayes-pfl predict reads it"):
        next(pages_of(path))


def test_a_picture_as_wide_as_the_deepest_value_is_of_8_bits(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (1, 65535, 3), np.uint8)
    path = save(tmp_path, "a.ppm", Image.fromarray(values))
    assert np.array_equal(np.asarray(read_image(path)), values)
    ((_, alone),) = pages_of(path)
    assert np.array_equal(np.asarray(alone), values)


def test_a_bare_stream_of_jpeg_2000_is_as_deep_as_it_says(tmp_path, picture):
    picture = np.tile(picture, (4, 4, 1))
    picture[0, 0] = 255
    deep = cv2.imencode(".jp2", picture[..., ::-1].astype(np.uint16) * 257, [LOSSLESS, 1000])[1]
    flat = cv2.imencode(".jp2", picture[..., ::-1], [LOSSLESS, 1000])[1]
    for name, data in (("deep", deep.tobytes()), ("flat", flat.tobytes())):
        path = tmp_path / f"{name}.jp2"
        path.write_bytes(data[data.index(b"\xff\x4f\xff\x51") :])
        assert np.array_equal(np.asarray(read_image(path)), picture)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = save(tmp_path, "a.webp", frames[0], save_all=True, append_images=frames[1:], lossless=1)
    assert read_image(path).getpixel((0, 0)) == (255, 0, 0)


def damaged_files(folder):
    buffer = io.BytesIO()
    Image.effect_noise((200, 200), 50).save(buffer, "PNG")
    whole = buffer.getvalue()
    jpeg = io.BytesIO()
    Image.effect_noise((200, 200), 50).save(jpeg, "JPEG")
    yield "empty.png", b"", "empty"
    yield "cut.png", whole[: len(whole) // 2], "damaged or cut short"
    yield "header.png", whole[:20], "header.png"
    yield "cut.jpg", jpeg.getvalue()[: len(jpeg.getvalue()) // 2], "damaged or cut short"
    yield "text.png", b"<html>404</html>", "not an image"
    yield "script.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"
    yield "cut.tif", b"II*\x00\x08\x00\x00\x00", "cut.tif"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_unreadable_files_give_one_line_that_begins_with_the_path(tmp_path):
    for name, content, reason in damaged_files(tmp_path):
        path = tmp_path / name
        path.write_bytes(content)
        for read in (read_image, read_mask):
            with pytest.raises(ImageReadError, match=reason) as caught:
                read(path)
            assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    for path, reason in ((tmp_path / "none.png", "no such file"), (tmp_path, "is a folder")):
        with pytest.raises(ImageReadError, match=reason):
            read_image(path)


def test_cut_16_bit_colour_is_noticed(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65535, (90, 90, 3)).astype(np.uint16)
    path = tmp_path / "deep.png"
    path.write_bytes(cv2.imencode(".png", deep)[1].tobytes()[:20000])
    with pytest.raises(ImageReadError, match="deep.png"):
        read_image(path)


def test_too_many_pixels_are_refused_before_decoding(tmp_path):
    path = save(tmp_path, "big.png", Image.new("1", (1000, 1000)))
    with pytest.raises(ImageReadError, match="1000x1000 is more than 999999 pixels"):
        read_image(path, max_pixels=999_999)
    assert read_image(path, max_pixels=1_000_000).size == (1000, 1000)


def test_masks_of_every_kind(tmp_path):
    wanted = np.zeros((12, 16), bool)
    wanted[3:7, 4:9] = True
    grey = wanted.astype(np.uint8)
    kinds = {
        "one.png": Image.fromarray(wanted),
        "low.png": Image.fromarray(grey),
        "full.bmp": Image.fromarray(grey * 255),
        "deep.png": Image.fromarray(grey.astype(np.uint16)),
        "colour.png": Image.fromarray(np.dstack([grey * 0, grey * 9, grey * 0])),
        "float.tif": Image.fromarray(grey.astype(np.float32) * 0.5),
        "clear.png": Image.fromarray(np.dstack([grey * 0 + 255] * 3 + [grey * 255])),
        "palette.png": Image.fromarray(grey * 200).convert("P"),
    }
    for name, image in kinds.items():
        assert np.array_equal(read_mask(save(tmp_path, name, image)), wanted), name
    soft = Image.fromarray(np.where(wanted, 230, 40).astype(np.uint8))
    assert np.array_equal(read_mask(save(tmp_path, "soft.jpg", soft, quality=95)), wanted)


def test_as_rgb_agrees_over_types(picture):
    floats = picture.astype(np.float32) / 255
    chw = picture.transpose(2, 0, 1)
    same = [
        Image.fromarray(picture),
        picture,
        np.ascontiguousarray(chw),
        floats,
        torch.from_numpy(chw.copy()),
        torch.from_numpy(floats.transpose(2, 0, 1).copy()),
        picture.astype(np.uint16) * 257 if picture.max() == 255 else picture,
    ]
    for image in same:
        assert np.array_equal(np.asarray(as_rgb(image)), picture)
    grey = np.asarray(as_rgb(torch.from_numpy(picture[..., 0].copy())))
    assert np.array_equal(grey, np.repeat(picture[..., :1], 3, axis=2))


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("part.png", "type str"),
        (np.zeros((2, 5, 6, 3)), "shape"),
        (np.zeros((0, 5, 3), np.uint8), "shape"),
        (np.full((4, 4), 1.5), "must lie in"),
        (np.full((4, 4), np.nan), "must lie in"),
        (np.full((4, 4), "a"), "not numeric"),
    ],
)
def test_as_rgb_refuses_what_is_no_image(image, reason):
    with pytest.raises(DataError, match=reason):
        as_rgb(image)


@given(hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2)), st.sampled_from("ui"))
def test_depth_scaling_keeps_the_order_of_values(values, kind):
    scaled = to_uint8(values.astype(np.int32) if kind == "i" else values)
    order = np.argsort(values, axis=None, kind="stable")
    assert scaled.dtype == np.uint8 and (np.diff(scaled.ravel()[order].astype(int)) >= 0).all()


def test_values_without_an_agreed_range_are_stretched_and_nan_refused():
    assert to_uint8(np.array([[-1000.0, 0.0, 1000.0]])).tolist() == [[0, 128, 255]]
    assert to_uint8(np.full((2, 2), -3)).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(BayesPFLError, match="NaN"):
        to_uint8(np.array([np.inf]))


def test_find_images_is_sorted_recursive_and_survives_link_loops(tmp_path):
    for name in ("b.PNG", "a/2.JPeG", "a/1.tif", "a b/ü.webp", ".h/x.png", "._b.PNG", "n.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    outside = tmp_path / "z.dir"
    outside.mkdir()
    (outside / "far.bmp").touch()
    (tmp_path / "a" / "link").symlink_to(outside)
    names = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert names == ["a/1.tif", "a/2.JPeG", "a/link/far.bmp", "a b/ü.webp", "b.PNG"]


def test_find_images_names_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        find_images(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is not a folder"):
        find_images(tmp_path / "file")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_was_received_reads_as_its_file_does(tmp_path):
    bad_images.write_all(tmp_path)
    stack(tmp_path / "pages.tif", 3)
    cut(stack(tmp_path / "cut pages.tif", 3), 2)
    values = np.arange(800, dtype=np.uint16).reshape(20, 40)
    write_dicom(tmp_path / "frames.dcm", np.stack([values, values // 2]), WindowCenter=300.0)
    write_dicom(tmp_path / "none.dcm", None)
    deflated = "1.2.840.10008.1.2.1.99"
    write_dicom(tmp_path / "deflated.dcm", values, syntax=deflated)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 40
    for path in files:
        found, data = [], path.read_bytes()
        for read in (lambda p=path: read_image(p), lambda d=data: read_received_image(d)):
            try:
                image = read()
                found.append((np.asarray(image).tobytes(), image.size, image.info))
            except ImageReadError as error:
                reason = str(error).removeprefix(f"{path}: ").removeprefix("the picture: ")
                found.append(reason)
        assert found[0] == found[1], path
