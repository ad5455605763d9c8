//! docs/performance.md: each bench writes between its own marks and leaves the rest alone.

use std::fs;

use anyhow::{Context as _, Result};

use crate::project;

/// Prints a bench's part of the page; also writes it into the page, unless it is a dry run.
pub fn publish(part: &str, text: &str, dry_run: bool) -> Result<()> {
    print!("{text}");
    if dry_run {
        return Ok(());
    }
    let path = project::root().join("docs/performance.md");
    let page = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    fs::write(&path, replace(&page, part, text)).with_context(|| path.display().to_string())?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

/// The page with new text between the marks of a part; a missing part is appended.
fn replace(page: &str, part: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {part}: begin -->\n"), format!("<!-- {part}: end -->\n"));
    let text = text.trim_end();
    let found = page.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    match found {
        Some((before, after)) => format!("{before}{begin}{text}\n{end}{after}"),
        None => format!("{}\n\n{begin}{text}\n{end}", page.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_replaces_itself_and_nothing_else() {
        let page = replace("# Title\n", "a", "first\n\n");
        assert_eq!(page, "# Title\n\n<!-- a: begin -->\nfirst\n<!-- a: end -->\n");
        let page = replace(&page, "b", "second");
        let page = replace(&page, "a", "third");
        assert!(page.starts_with("# Title\n\n<!-- a: begin -->\nthird\n<!-- a: end -->\n"), "{page}");
        assert!(page.ends_with("\n<!-- b: begin -->\nsecond\n<!-- b: end -->\n"), "{page}");
    }
}
