//! Tables in documents.

use std::path::Path;

use anyhow::{Context, bail};

/// Puts a table between the lines `<!-- NAME:begin -->` and `<!-- NAME:end -->` of a document.
pub fn replace_block(path: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let document = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
    let (Some(from), Some(to)) = (document.find(&begin), document.find(&end)) else {
        bail!("{} has no {name}:begin and {name}:end lines", path.display());
    };
    let document = format!("{}{text}\n{}", &document[..from + begin.len()], &document[to..]);
    Ok(std::fs::write(path, document)?)
}
