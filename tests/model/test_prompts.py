"""The prompt bank and the wording of class names."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bayes_pfl.config import PromptConfig
from bayes_pfl.data.wording import PUBLISHED_WORDS, prompt_word
from bayes_pfl.model.prompts import PromptBank


@pytest.mark.parametrize(
    ("category", "words"),
    [
        ("bottle", "bottle"),
        ("metal_nut", "metal nut"),
        ("pipe_fryum", "pipe fryum"),
        ("chewinggum", "chewing gum"),
        ("macaroni1", "macaroni"),
        ("macaroni2", "macaroni"),
        ("pcb1", "printed circuit board"),
        ("pcb4", "printed circuit board"),
        ("capsules", "capsules"),
        ("  head   ct ", "head ct"),
    ],
)
def test_words_of_the_published_categories(category, words):
    assert prompt_word(category) == words


@given(st.text(max_size=30))
def test_words_are_settled_after_one_pass_of_blanks(category):
    words = prompt_word(category)
    assert words == words.strip() and "_" not in words and "  " not in words


def test_published_words_are_words():
    assert all(word == word.lower() and word for word in PUBLISHED_WORDS.values())


def test_prompts_are_bank_plus_sample_in_the_published_order():
    bank = PromptBank(PromptConfig(pairs=3, context_tokens=2, state_tokens=4), 8)
    images, samples = 2, 5
    context = torch.randn(images, samples, 8)
    normal, abnormal = torch.randn(samples, 8), torch.randn(samples, 8)
    prompts = bank(context, normal, abnormal)
    assert prompts.shape == (images, 2 * samples * 3, 6, 8)
    states = ((bank.state_normal, normal), (bank.state_abnormal, abnormal))
    for image in range(images):
        for half, (state, sample) in enumerate(states):
            for r in range(samples):
                for m in range(3):
                    prompt = prompts[image, half * samples * 3 + r * 3 + m]
                    torch.testing.assert_close(prompt[:2], bank.context[m] + context[image, r])
                    torch.testing.assert_close(prompt[2:], state[m] + sample[r])


def test_first_values_are_truncated_normal_about_their_means():
    bank = PromptBank(PromptConfig(pairs=20, context_tokens=20, state_tokens=20), 64)
    means = ((bank.context, 0.0), (bank.state_normal, 0.5), (bank.state_abnormal, -0.5))
    for parameter, mean in means:
        assert parameter.mean().item() == pytest.approx(mean, abs=2e-3)
        assert parameter.std().item() == pytest.approx(0.02, rel=0.05)


def test_gradient_reaches_the_three_banks_and_the_samples():
    bank = PromptBank(PromptConfig(), 4)
    samples = [torch.randn(*shape, 4, requires_grad=True) for shape in ((1, 2), (2,), (2,))]
    bank(*samples).square().sum().backward()
    for tensor in (*bank.parameters(), *samples):
        assert tensor.grad is not None and (tensor.grad != 0).any()
