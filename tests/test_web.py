"""What lib/web does below the routes; the routes themselves are tested in test_serve.py."""

import pytest

from lib.errors import ImageError
from lib.web import problems


@pytest.mark.parametrize(
    ("kind", "status"), [("empty", 400), ("unsupported", 415), ("broken", 422), ("too_large", 422)]
)
def test_each_kind_of_refusal_has_its_status(kind, status):
    problem = problems.from_image_error(ImageError("because", kind))
    assert problem.status == status
    assert "because" in problem.detail


def test_a_document_has_the_members_of_rfc_9457_and_a_constant_title():
    assert problems.document(404, "no such page") == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "no such page",
    }
