from __future__ import annotations

from docs.reference import PAGE, SECTIONS, written


def test_the_page_says_what_the_code_says() -> None:
    """The tables of settings and fields are those that `make docs` writes: no setting is missing, none is made up."""
    page = PAGE.read_text("utf-8")
    assert written(page) == page


def test_every_field_of_the_file_is_explained() -> None:
    """Each field of ``gateway.yaml`` has a description beside its type."""
    unexplained = [
        name
        for section in SECTIONS.values()
        for name, info in section.model_fields.items()
        if name != "defaults" and not info.description
    ]
    assert unexplained == []
