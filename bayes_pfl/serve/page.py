"""The page /docs: the addresses of the service, without a script and without another computer."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment

from bayes_pfl.serve.settings import ServeSettings

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
"""Content security policy of the page."""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ info.title }}: the service</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; border-top: 1px solid #8886; padding-top: 1rem; }
h2 span { font-weight: normal; color: #777; margin-left: .5rem; font-size: 1rem; }
pre { background: #8882; padding: .8rem; overflow-x: auto; border-radius: 4px; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0;
  border-bottom: 1px solid #8884; }
td:first-child { width: 1%; white-space: nowrap; font-family: ui-monospace, monospace; }
form { background: #8881; padding: .8rem; border-radius: 4px; }
</style>
</head>
<body>
<h1>{{ info.title }} {{ info.version }}</h1>
<p>{{ info.summary }} The same as a schema: <a href="/openapi.json">openapi.json</a>.</p>
<p>Limits: {{ mib }} MiB and {{ megapixels }} megapixels of a picture, {{ settings.max_queue }}
requests at once, {{ "%g" | format(settings.max_seconds) }} seconds.
{% if settings.token %}Each request but those to /health brings the header
<code>Authorization: Bearer TOKEN</code>.{% endif %}</p>
<pre>curl --data-binary @photo.png {{ header }}'http://{{ address }}/predict?map=png'
curl -F picture=@photo.png {{ header }}http://{{ address }}/predict</pre>
{% if not settings.token %}
<form action="/predict" method="post" enctype="multipart/form-data">
<label>A picture: <input type="file" name="picture" required></label>
<button>Score it</button>
</form>
{% endif %}
{% for path, methods in paths.items() %}{% for method, one in methods.items() %}
<h2>{{ method | upper }} {{ path }}<span>{{ one.summary }}</span></h2>
<p>{{ one.description }}</p>
{% if one.parameters %}
<table>
{% for known in one.parameters %}
<tr><td>?{{ known.name }}</td><td>{{ known.description }}</td></tr>
{% endfor %}
</table>
{% endif %}
<table>
{% for status, answer in one.responses.items() %}
<tr><td>{{ status }}</td><td>{{ answer.description }}</td></tr>
{% endfor %}
</table>
{% endfor %}{% endfor %}
{% for name in ("Answer", "RegionOfAnswer", "NearestNormalOfAnswer") %}
<h2>{{ name }}</h2>
<p>{{ schemas[name].description }}</p>
<table>
{% for field, known in schemas[name].properties.items() %}
<tr><td>{{ field }}</td><td>{{ known.description or "" }}</td></tr>
{% endfor %}
</table>
{% endfor %}
</body>
</html>
"""


def page_of(schema: dict[str, Any], settings: ServeSettings, address: str) -> str:
    """The page for an OpenAPI schema.

    Args:
        address: host and port, as the reader knows them.
    """
    template = Environment(autoescape=True, trim_blocks=True).from_string(_PAGE)
    return template.render(
        info=schema["info"],
        paths=schema["paths"],
        schemas=schema["components"]["schemas"],
        settings=settings,
        mib=f"{settings.max_bytes / 2**20:g}",
        megapixels=f"{settings.max_pixels / 1e6:g}",
        address=address,
        header="-H 'Authorization: Bearer TOKEN' " if settings.token else "",
    )
