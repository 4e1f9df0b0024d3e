"""Who may reach a server."""

import base64

import pytest

from bayes_pfl.errors import ConfigError
from bayes_pfl.support.access import brings_token, check_access

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "box.local"])
def test_other_computers_need_a_token(host):
    check_access(host, TOKEN)
    check_access("127.0.0.1", None)
    with pytest.raises(ConfigError, match=f"host '{host}' is open .*--token") as refused:
        check_access(host, None)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("token", ["", "short", "a b" * 9, "ü" * 20, "a\n" * 20])
def test_tokens_that_can_be_guessed_or_not_sent(token):
    with pytest.raises(ConfigError, match="give 16 at least") as refused:
        check_access("127.0.0.1", token)
    assert token not in str(refused.value) or token == ""


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_the_token_comes_as_bearer_or_as_a_password():
    for header in (f"Bearer {TOKEN}", f"bearer  {TOKEN}", basic(f"me:{TOKEN}"), basic(f":{TOKEN}")):
        assert brings_token(header, TOKEN)
    wrong = (
        "",
        TOKEN,
        "Bearer",
        f"Bearer {TOKEN}0",
        f"Digest {TOKEN}",
        "Basic ????",
        "Bearer \xff",
    )
    for header in (*wrong, basic(TOKEN), basic(f"{TOKEN}:"), basic(f"a:b:{TOKEN}")):
        assert not brings_token(header, TOKEN)
