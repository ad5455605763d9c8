//! Runs the rows of `matrix.yaml`.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{flags, helm};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// A sentence, which is the name of the test.
    case: String,
    #[serde(default)]
    pub values: Map<String, Value>,
    /// The chart renders exactly these objects.
    renders: Option<BTreeSet<String>>,
    /// Parts of objects by name. An element of a list must equal one of the rendered elements.
    #[serde(default)]
    has: Map<String, Value>,
    /// Exactly these flags follow `run`.
    flags: Option<Vec<String>>,
    /// Helm fails with this message.
    refused: Option<String>,
}

pub fn trials() -> Vec<Trial> {
    rows().into_iter().map(|row| Trial::test(row.case.clone(), move || Ok(play(&row)?))).collect()
}

pub fn rows() -> Vec<Row> {
    serde_yaml_ng::from_str(include_str!("matrix.yaml")).expect("matrix.yaml")
}

fn play(row: &Row) -> Result<()> {
    let values = Value::Object(row.values.clone()).to_string();
    let rendered = helm::template(&values, &[]);
    if let Some(word) = &row.refused {
        return match rendered {
            Ok(_) => bail!("Helm renders it"),
            Err(error) => {
                let said = format!("{error:#}");
                ensure!(said.contains(word.as_str()), "Helm refuses it in other words: {said}");
                Ok(())
            }
        };
    }
    let objects = helm::objects(&rendered?)?;
    helm::lint(&values)?;

    let names: BTreeSet<_> = objects.iter().map(helm::name).collect();
    ensure!(names.len() == objects.len(), "two objects have one name: {names:?}");
    if let Some(wanted) = &row.renders {
        ensure!(names == *wanted, "it renders {names:?}");
    }
    for (name, part) in &row.has {
        let object = objects.iter().find(|object| helm::name(object) == *name);
        let object = object.with_context(|| format!("no {name} in {names:?}"))?;
        ensure!(contains(object, part), "{name} does not have {part}:\n{object:#}");
    }

    let typed = flags::of(&objects)?;
    if let Some(wanted) = &row.flags {
        ensure!(typed == *wanted, "the flags are {typed:?}");
    }
    flags::parse(&typed)
}

fn contains(object: &Value, part: &Value) -> bool {
    match (object, part) {
        (Value::Object(object), Value::Object(part)) => {
            part.iter().all(|(key, part)| object.get(key).is_some_and(|value| contains(value, part)))
        }
        (Value::Array(list), Value::Array(parts)) => {
            parts.iter().all(|part| list.iter().any(|element| contains(element, part)))
        }
        (object, part) => object == part,
    }
}
