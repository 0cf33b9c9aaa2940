//! The Range header (RFC 9110, section 14), as far as the file server below refuses what it need not.

/// The range to request instead, for a file of `length` bytes, in a form that the file server understands. `None` is
/// the whole file: for unknown units, as the standard requires, and for several ranges, as it permits.
pub(super) fn understood(range: &str, length: u64) -> Option<String> {
    let part = range.strip_prefix("bytes=").filter(|parts| !parts.contains(','))?;
    let Some((first, last)) = part.split_once('-') else { return Some(range.to_owned()) };
    // A suffix longer than the file means the whole file.
    if first.is_empty() && number(last).is_some_and(|suffix| suffix > length) && length > 0 {
        return Some("bytes=0-".to_owned());
    }
    let plain = |text: &str| number(text).map_or_else(|| text.to_owned(), |number| number.to_string());
    Some(format!("bytes={}-{}", plain(first), plain(last)))
}

/// A number of any length; those that are too large are the largest.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::understood;

    #[test]
    fn ranges_are_clamped_and_several_are_the_whole_file() {
        for (asked, told) in [
            ("bytes=0-18446744073709551616", Some("bytes=0-18446744073709551615")),
            ("bytes=007-9", Some("bytes=7-9")),
            ("bytes=5-", Some("bytes=5-")),
            ("bytes=-99999999999999999999", Some("bytes=0-")),
            ("bytes=-1001", Some("bytes=0-")),
            ("bytes=-1000", Some("bytes=-1000")),
            ("bytes=99999999999999999999-", Some("bytes=18446744073709551615-")),
            ("bytes=0-1,5-6", None),
            ("items=0-5", None),
            // Wrong, and for the file server to refuse.
            ("bytes=5", Some("bytes=5")),
            ("bytes=a-b", Some("bytes=a-b")),
        ] {
            assert_eq!(understood(asked, 1000).as_deref(), told, "{asked}");
        }
    }
}
