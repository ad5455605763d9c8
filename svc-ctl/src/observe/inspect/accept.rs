//! Reads an Accept header and chooses among the forms of a document, as kube-proxy does (SEM-218).

/// Forms in kube-proxy's order: a range of media types takes the first one that its parameters allow.
const FORMS: [(&str, &str); 3] = [("application", "json"), ("application", "yaml"), ("text", "plain")];

/// The API group that a client must name.
pub const GROUP: &str = "config.k8s.io";
const VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];

/// The form of a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    Text,
    Json(&'static str),
    Yaml(&'static str),
}

/// The form to answer in; `None` if the client accepts none of them.
pub fn choose(accept: &str, kind: &str) -> Option<Form> {
    if accept.trim().is_empty() {
        return Some(Form::Text);
    }
    ranges(accept).iter().find_map(|range| {
        let forms = FORMS.iter().filter(|(main, sub)| range.covers(main, sub));
        forms.into_iter().find_map(|(_, sub)| match (range.transformation(kind), *sub) {
            (Transformation::None, "plain") => Some(Form::Text),
            (Transformation::To(version), "json") => Some(Form::Json(version)),
            (Transformation::To(version), "yaml") => Some(Form::Yaml(version)),
            _ => None,
        })
    })
}

/// A refusal is written as YAML for a client that accepts this form of other documents, else as JSON.
pub fn wants_yaml(accept: &str) -> bool {
    let forms = [("application", "json"), ("application", "yaml")];
    let mut accepted =
        ranges(accept).into_iter().filter(|range| matches!(range.transformation(""), Transformation::None));
    let first = accepted.find_map(|range| forms.into_iter().find(|(main, sub)| range.covers(main, sub)));
    first.is_some_and(|(_, sub)| sub == "yaml")
}

/// One entry of the header.
#[derive(Debug)]
struct Range<'a> {
    main: &'a str,
    sub: &'a str,
    quality: f64,
    parameters: Vec<(&'a str, &'a str)>,
}

/// The type of object that a client asks for.
#[derive(Debug)]
enum Transformation {
    None,
    To(&'static str),
    Unknown,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';');
        let media = parts.next()?.trim();
        let (main, sub) = if media == "*" { ("*", "*") } else { media.split_once('/')? };
        let mut range = Self { main, sub, quality: 1.0, parameters: Vec::new() };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match (name.trim(), value.trim()) {
                ("q", value) => range.quality = value.parse().unwrap_or_default(),
                (_, "") => {}
                parameter => range.parameters.push(parameter),
            }
        }
        Some(range)
    }

    fn covers(&self, main: &str, sub: &str) -> bool {
        match (self.main, self.sub) {
            ("*", "*") => true,
            (own, "*") => own == main,
            (own, own_sub) => own == main && own_sub == sub,
        }
    }

    /// A range of higher quality comes first, and so does a type before a wildcard.
    fn precedes(&self, other: &Self) -> bool {
        self.quality > other.quality
            || (self.main != "*" && other.main == "*")
            || (self.sub != "*" && other.sub == "*")
    }

    fn transformation(&self, kind: &str) -> Transformation {
        let value = |name| self.parameters.iter().rev().find(|(known, _)| *known == name).map(|(_, v)| *v);
        match [value("as"), value("g"), value("v"), value("sv"), value("stream")] {
            [None, None, None, None, None] => Transformation::None,
            [Some(named), Some(GROUP), Some(version), None, None] if named == kind => {
                let known = VERSIONS.into_iter().find(|known| *known == version);
                known.map_or(Transformation::Unknown, Transformation::To)
            }
            _ => Transformation::Unknown,
        }
    }
}

/// The ranges of a header in the order in which they are tried. `precedes` is no total order, so a library's sort would
/// give another result: kube-proxy's inserts one after the other.
fn ranges(accept: &str) -> Vec<Range<'_>> {
    let mut sorted: Vec<Range<'_>> = Vec::new();
    for range in accept.split(',').filter_map(Range::parse) {
        let place = sorted.iter().rposition(|earlier| !range.precedes(earlier)).map_or(0, |last| last + 1);
        sorted.insert(place, range);
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sem_218_a_client_gets_the_form_that_kube_proxy_would_choose() {
        let typed = |media: &str, version: &str| format!("{media};as=Statusz;v={version};g=config.k8s.io");
        let json = typed("application/json", "v1beta1");
        for (accept, form) in [
            (String::new(), Some(Form::Text)),
            ("*/*".to_owned(), Some(Form::Text)),
            ("*".to_owned(), Some(Form::Text)),
            ("text/plain;q=0.5".to_owned(), Some(Form::Text)),
            ("application/json".to_owned(), None),
            ("application/xml".to_owned(), None),
            (json.clone(), Some(Form::Json("v1beta1"))),
            (typed("application/yaml", "v1alpha1"), Some(Form::Yaml("v1alpha1"))),
            (typed("application/*", "v1beta1"), Some(Form::Json("v1beta1"))),
            (typed("*/*", "v1beta1"), Some(Form::Json("v1beta1"))),
            (typed("text/plain", "v1beta1"), None),
            (typed("application/cbor", "v1beta1"), None),
            (typed("application/json", "v2"), None),
            (json.replace("Statusz", "Other"), None),
            (format!("{json};stream=watch"), None),
            (
                format!("application/json, {}", typed("application/yaml", "v1beta1")),
                Some(Form::Yaml("v1beta1")),
            ),
            // The quality counts, and a type counts more than a wildcard.
            (format!("text/plain;q=0.1, {json}"), Some(Form::Json("v1beta1"))),
            (format!("*/*, {json};q=0.1"), Some(Form::Json("v1beta1"))),
            (format!("{json};q=0.5, text/plain"), Some(Form::Text)),
        ] {
            assert_eq!(choose(&accept, "Statusz"), form, "{accept}");
        }
    }
}
