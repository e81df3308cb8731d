"""What is on a report's page, and whether it needs anything else."""

import html.parser
import urllib.parse

LOADS = ("src", "href", "srcset", "data", "poster", "action", "xlink:href")
VOID = ("meta", "img")


class Page(html.parser.HTMLParser):
    """Reads a page: its text, images, charts, and addresses that are not in it."""

    def __init__(self, text):
        super().__init__()
        self.words, self.images, self.charts, self.outside = [], [], 0, []
        self.open, self.style, self.rows = [], "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        for name in LOADS:
            if name in given:
                scheme = urllib.parse.urlparse(given[name]).scheme
                if scheme != "data":
                    self.outside.append((tag, given[name]))
        if tag in ("script", "link", "iframe", "object", "embed", "base"):
            self.outside.append((tag, ""))
        if tag == "img":
            self.images.append(given["src"])
            assert given["alt"]
        self.charts += given.get("role") == "img"
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open}"
        self.open.pop()

    def handle_data(self, data):
        if "style" in self.open:
            self.style += data
        elif data.strip():
            self.words.append(data.strip())
            if "tr" in self.open and self.rows and self.rows[-1]:
                self.rows[-1][-1] += data

    @property
    def text(self):
        """All that is read on the page."""
        return " ".join(self.words)
