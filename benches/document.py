"""Measured tables in documents, between markers."""


def put(path, name, text):
    """Replaces the text between `<!-- NAME:begin -->` and `<!-- NAME:end -->` in the document."""
    with open(path) as file:
        document = file.read()
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    before, rest = document.split(begin)
    after = rest.split(end)[1]
    with open(path, "w") as file:
        file.write(f"{before}{begin}{text}\n{end}{after}")
