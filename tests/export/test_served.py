"""An export behind an address: the answers are those of predict with the profile."""

import io

import numpy as np
import pytest

from bayes_pfl.predict.images import predict_stream
from bayes_pfl.serve.detectors import ServedExport
from tests.fit.test_tiles import large, spotted
from tests.helpers.folders import picture
from tests.serve.client import serving


def test_an_export_answers_as_predict_does(with_profile, tiny_model, profile):
    pictures = [spotted(91), picture(1), large(61)]
    expected = predict_stream(tiny_model, pictures, None, profile.scoring(), profile=profile)
    with serving(lambda: ServedExport(with_profile, batch_size=2)) as running:
        for image, result in zip(pictures, expected, strict=True):
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            found, wanted = running.post(buffer.getvalue()).json, result.to_dict()
            assert found["region_count"] == wanted.pop("regions")
            for name in ("score", "score_low", "score_high", "uncertainty", "memory_score"):
                assert found[name] == pytest.approx(wanted[name], abs=1e-4)
            for name in ("label", "p_value", "needs_review", "width", "height", "class_name"):
                assert found[name] == wanted[name]
            for region, one in zip(found["regions"], result.regions, strict=True):
                np.testing.assert_allclose(region["box"], one.box, atol=2)
                assert region["p_value"] == one.p_value
        assert found["threshold"] == profile.calibration.threshold
