//! Finds the line of a field in a file.

use saphyr::{LoadableYamlNode as _, MarkedYaml, SafelyIndex as _};

/// The documents of a file, with the line of each field. Only messages for people use it.
#[derive(Debug)]
pub struct Lines<'t>(Vec<MarkedYaml<'t>>);

impl<'t> Lines<'t> {
    /// Of a text with a syntax error, the documents before it.
    pub fn of(mut text: &'t str) -> Self {
        loop {
            match MarkedYaml::load_from_str(text) {
                Ok(documents) => return Self(documents),
                Err(error) => match start_of_document(text, error.marker().line()) {
                    0 => return Self(Vec::new()),
                    start => text = text.get(..start).unwrap_or_default(),
                },
            }
        }
    }

    /// The line of a field (`spec.ports[1].port`) of a document, or of the innermost part of its path that is there. Documents
    /// and lines count from one.
    pub fn line(&self, document: usize, path: &str) -> usize {
        let Some(mut node) = document.checked_sub(1).and_then(|n| self.0.get(n)) else { return 1 };
        let mut line = node.span.start.line();
        for step in steps(path) {
            let key =
                node.data.as_mapping().into_iter().flatten().find(|(key, _)| key.data.as_str() == Some(step));
            let inner = match (key, step.parse::<usize>()) {
                (Some((key, value)), _) => {
                    line = key.span.start.line();
                    Some(value)
                }
                (None, Ok(index)) => node.get(index).inspect(|item| line = item.span.start.line()),
                (None, Err(_)) => None,
            };
            match inner {
                Some(inner) => node = inner,
                None => break,
            }
        }
        line
    }
}

/// The octet at which the document of this line begins.
fn start_of_document(text: &str, line: usize) -> usize {
    let mut at = 0;
    let begins = text.split_inclusive('\n').map(|line| {
        let start = at;
        at += line.len();
        (start, line)
    });
    let separators = begins.take(line).filter(|(_, line)| line.starts_with("---"));
    separators.last().map_or(0, |(start, _)| start)
}

/// `a.b[0]` and `a[x.y/z]` into their parts.
fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.split('[').enumerate().flat_map(|(i, part)| {
        // A part in brackets is one step, even with dots in it.
        let (bracketed, plain) = match part.split_once(']').filter(|_| i > 0) {
            Some((bracketed, plain)) => (Some(bracketed), plain),
            None => (None, part),
        };
        bracketed.into_iter().chain(plain.split('.').filter(|step| !step.is_empty()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_in_its_line() {
        let text = "# web\napiVersion: v1\nmetadata:\n  name: web\n  annotations: {svc/selection: x}\nspec:\n  ports:\n  \
                    - port: 80\n  - name: b\n    port: x\n---\n---\n- {a: 1}\n-\n  b: 2\n";
        let lines = Lines::of(text);
        for (document, path, line) in [
            (1, "", 2),
            (1, "metadata.name", 4),
            (1, "metadata.annotations[svc/selection]", 5),
            (1, "spec.ports[0].port", 8),
            (1, "spec.ports[1].port", 10),
            (1, "spec.ports[1].nodePort", 9),
            (1, "spec.type", 6),
            (3, "[0].a", 13),
            (3, "[1].b", 15),
            (9, "a", 1),
        ] {
            assert_eq!(lines.line(document, path), line, "{document} {path}");
        }
        let broken = Lines::of("a: 1\n---\nb: 2\n---\n# c\nc: [\n---\nd: 1\n");
        assert_eq!((broken.line(1, "a"), broken.line(2, "b"), broken.line(3, "c")), (1, 3, 1));
        for (text, line) in [("{a: [", 1), ("---\n{a: [", 1), ("", 1), ("---\n---\n- ]", 2)] {
            assert_eq!(Lines::of(text).line(1, "a"), line, "{text}");
        }
    }
}
