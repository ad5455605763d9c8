//! Selectors of labels. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// The labels of Namespaces by their names.
pub type Namespaces = BTreeMap<String, Labels>;

/// Selects objects by their labels, as Kubernetes' LabelSelector does.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    #[serde(default)]
    match_labels: BTreeMap<String, String>,
    #[serde(default)]
    match_expressions: Vec<Expression>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Expression {
    key: String,
    operator: Operator,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl Selector {
    pub fn selects(&self, labels: &Labels) -> bool {
        let has = |key: &str, values: &[String]| labels.get(key).is_some_and(|value| values.contains(value));
        let holds = |expression: &Expression| match expression.operator {
            Operator::In => has(&expression.key, &expression.values),
            Operator::NotIn => !has(&expression.key, &expression.values),
            Operator::Exists => labels.contains_key(&expression.key),
            Operator::DoesNotExist => !labels.contains_key(&expression.key),
        };
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(holds)
    }
}
