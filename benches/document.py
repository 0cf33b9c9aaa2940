"""Measured tables in documents, between markers of their own."""


def put(path, name, text):
    """Replaces what stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->` in the document."""
    with open(path) as file:
        document = file.read()
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    before, rest = document.split(begin)
    after = rest.split(end)[1]
    with open(path, "w") as file:
        file.write(f"{before}{begin}{text}\n{end}{after}")
