//! A golden case as text: steps with the sentences above them, then sections.

/// A step, its line number, and the comment above it.
#[derive(Clone)]
pub struct Step {
    pub line: usize,
    pub text: String,
    pub sentence: String,
}

pub struct Case {
    pub steps: Vec<Step>,
    /// Name and contents.
    pub sections: Vec<(String, String)>,
}

impl Case {
    pub fn parse(text: &str) -> Self {
        let mut case = Self { steps: Vec::new(), sections: Vec::new() };
        let mut comment: Vec<&str> = Vec::new();
        let mut is_said = false;
        for (i, line) in text.lines().enumerate() {
            let name = line.strip_prefix("-- ").and_then(|l| l.strip_suffix(" --"));
            match (name, case.sections.last_mut()) {
                (Some(name), _) => case.sections.push((name.to_owned(), String::new())),
                (None, Some((_, body))) => *body += &format!("{line}\n"),
                (None, None) if line.trim().is_empty() => {}
                (None, None) => match line.strip_prefix('#') {
                    Some(words) => {
                        if std::mem::take(&mut is_said) {
                            comment.clear();
                        }
                        comment.push(words.trim());
                    }
                    None => {
                        is_said = true;
                        let sentence = comment.join(" ");
                        case.steps.push(Step { line: i + 1, text: line.to_owned(), sentence });
                    }
                },
            }
        }
        case
    }

    pub fn section(&self, name: &str) -> Result<&str, String> {
        let found = self.sections.iter().find(|(n, _)| n == name);
        found
            .map(|(_, body)| body.trim_end_matches('\n'))
            .ok_or_else(|| format!("there is no section {name:?}"))
    }
}
