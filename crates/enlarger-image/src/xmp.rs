//! The two things that must change in an XMP packet: its orientation and where the picture was taken.
//!
//! Properties are attributes or elements under well-known prefixes (XMP specification, part 2). They are found by name, without an
//! XML parser: a packet that is not even XML then passes unharmed.

/// Says that the pixels are upright now.
pub(crate) fn reset_orientation(xmp: &mut [u8]) {
    const NAME: &[u8] = b"tiff:Orientation";
    let mut at = 0;
    while let Some(found) = find(xmp, NAME, at) {
        at = found + NAME.len();
        // `="6"` or `>6<`: the one digit within the next few bytes.
        let value = xmp[at..].iter().take(6).position(|b| (b'1'..=b'8').contains(b));
        if let Some(digit) = value {
            xmp[at + digit] = b'1';
        }
    }
}

/// Removes all properties of any prefix that begin with `GPS`: `exif:GPSLatitude` by the book, but prefixes are free.
pub(crate) fn remove_gps(xmp: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b":GPS";
    let mut out = Vec::with_capacity(xmp.len());
    let mut at = 0;
    while let Some(colon) = find(xmp, NAME, at) {
        let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.') || *b >= 0x80;
        let found = colon - xmp[at..colon].iter().rev().take_while(|b| is_name(b)).count();
        let element = found > 0 && xmp[found - 1] == b'<';
        let end = if element { end_of_element(xmp, found) } else { end_of_attribute(xmp, found) };
        out.extend(&xmp[at..found - usize::from(element)]);
        // Without an end the packet is damaged; what is left might be the place itself.
        at = end.unwrap_or(xmp.len());
    }
    out.extend(&xmp[at..]);
    out
}

fn end_of_attribute(xmp: &[u8], name: usize) -> Option<usize> {
    let open = name + xmp[name..].iter().position(|b| matches!(b, b'"' | b'\''))?;
    let close = open + 1 + xmp[open + 1..].iter().position(|&b| b == xmp[open])?;
    Some(close + 1)
}

fn end_of_element(xmp: &[u8], name: usize) -> Option<usize> {
    let length = xmp[name..].iter().position(|b| matches!(b, b'>' | b'/' | b' ' | b'\t' | b'\r' | b'\n'))?;
    let start_tag = name + xmp[name..].iter().position(|&b| b == b'>')?;
    if xmp[start_tag - 1] == b'/' {
        return Some(start_tag + 1);
    }
    let closing = [b"</", &xmp[name..name + length]].concat();
    let end = find(xmp, &closing, start_tag)?;
    Some(end + 1 + xmp[end..].iter().position(|&b| b == b'>')?)
}

fn find(bytes: &[u8], what: &[u8], from: usize) -> Option<usize> {
    memchr::memmem::find(bytes.get(from..)?, what).map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).expect("text went in")
    }

    #[test]
    fn orientations_become_upright_as_attributes_and_as_elements() {
        for (packet, expected) in [
            (r#"<a tiff:Orientation="6" b="6"/>"#, r#"<a tiff:Orientation="1" b="6"/>"#),
            ("<tiff:Orientation>8</tiff:Orientation>", "<tiff:Orientation>1</tiff:Orientation>"),
            ("<a tiff:Orientation = '3'/>", "<a tiff:Orientation = '1'/>"),
            ("<a tiff:Orientation=''/><b>6</b>", "<a tiff:Orientation=''/><b>6</b>"),
            ("tiff:Orientation", "tiff:Orientation"),
        ] {
            let mut xmp = packet.as_bytes().to_vec();
            reset_orientation(&mut xmp);
            assert_eq!(text(xmp), expected);
        }
    }

    #[test]
    fn places_go_whatever_their_prefix_and_nothing_else_does() {
        for (packet, expected) in [
            (r#"<a exif:GPSLatitude="52,31N" b="1"/>"#, r#"<a  b="1"/>"#),
            ("<a><x-y:GPSMapDatum>WGS-84</x-y:GPSMapDatum><b>1</b></a>", "<a><b>1</b></a>"),
            ("<a><exif:GPSAltitude/><b/></a>", "<a><b/></a>"),
            ("<a><e:GPSLatitude q='1'>52</e:GPSLatitude></a>", "<a></a>"),
            ("<a b=\"a GPS\"/>", "<a b=\"a GPS\"/>"),
            // Without an end: nothing of it is kept.
            ("<a><exif:GPSLatitude>52", "<a>"),
            ("<a exif:GPSLatitude=\"52", "<a "),
        ] {
            assert_eq!(text(remove_gps(packet.as_bytes())), expected);
        }
    }
}
