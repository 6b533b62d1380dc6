from tools.site import faults


def site(folder, **pages):
    for name, body in pages.items():
        (folder / f"{name}.html").write_text(body)
    return list(faults(folder))


def test_links_and_anchors_that_are_there_are_fine(tmp_path):
    one = '<a href="two.html#there">2</a><a href="https://example.com/x">out</a><script src="app.js"></script>'

    assert site(tmp_path, one=one, two='<h2 id="there"></h2><a href="#there">self</a>') == []


def test_a_page_or_an_anchor_that_is_not_there_is_told(tmp_path):
    found = site(tmp_path, one='<a href="three.html">3</a><a href="#gone">x</a>')

    assert found == ["one.html: three.html leads nowhere", "one.html: #gone leads nowhere"]


def test_what_comes_from_another_host_is_told(tmp_path):
    found = site(
        tmp_path, one='<link href="https://fonts.example.com/a.css"><script src="//cdn.example.com/x.js"></script>'
    )

    assert len(found) == 2
