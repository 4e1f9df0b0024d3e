"""Further medical categories to train on: the embedded head was, its CLIP was not."""

from __future__ import annotations

from bayes_pfl.rendering import anatomy
from bayes_pfl.rendering.category import medical

MEDICAL = (
    medical("knee_mri", "knee", "lesion tumour bleeding crack", anatomy.knee_mri),
    medical("lung_ct", "lung ct", "tumour tumour lesion bleeding", anatomy.lung_ct),
    medical("mammogram", "mammogram", "tumour tumour lesion", anatomy.mammogram),
    medical("heart_mri", "heart", "lesion tumour bleeding", anatomy.heart_mri),
    medical("layer_scan", "tissue layers", "lesion bleeding tumour hole", anatomy.layer_scan),
    medical("stomach", "stomach", "polyp lesion bleeding", anatomy.stomach),
    medical(
        "blood_smear", "blood smear", "lesion contamination discoloration", anatomy.blood_smear
    ),
    medical("tongue", "tongue", "lesion bleeding polyp rash cut", anatomy.tongue),
)
