//! The documents of `/statusz` and `/flagz`, with kube-proxy's fields.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

/// Name of this component.
const NAME: &str = "svc";
/// Other paths that `/statusz` lists.
const PATHS: [&str; 5] = ["/configz", "/flagz", "/healthz", "/metrics", "/proxyMode"];

/// A document for people (text) and programs (object).
pub trait Document {
    const KIND: &'static str;
    /// The path without its slash.
    const PATH: &'static str;

    /// One line per fact, with the delimiter between name and value.
    fn lines(&self, delimiter: &str) -> String;
    /// The fields beside `kind`, `apiVersion` and `metadata`.
    fn fields(&self) -> Value;

    fn text(&self, delimiter: &str) -> String {
        format!(
            "\n{NAME} {}\nWarning: This endpoint is not meant to be machine parseable, has no formatting compatibility \
             guarantees and is for debugging purposes only.\n{}",
            Self::PATH,
            self.lines(delimiter)
        )
    }

    fn object(&self, version: &str) -> Value {
        let mut object = json!({
            "kind": Self::KIND,
            "apiVersion": format!("config.k8s.io/{version}"),
            "metadata": {"name": NAME},
        });
        if let (Value::Object(object), Value::Object(fields)) = (&mut object, self.fields()) {
            object.extend(fields);
        }
        object
    }
}

/// Version and uptime of the daemon.
#[derive(Clone, Copy, Debug)]
pub struct Statusz {
    pub start: Timestamp,
    pub now: Timestamp,
}

impl Statusz {
    fn uptime(&self) -> i64 {
        (self.now.as_second() - self.start.as_second()).max(0)
    }
}

impl Document for Statusz {
    const KIND: &'static str = "Statusz";
    const PATH: &'static str = "statusz";

    fn lines(&self, delimiter: &str) -> String {
        let (start, up) = (self.start.to_zoned(TimeZone::UTC), self.uptime());
        let lines = [
            ("Started", start.strftime("%a %b %e %H:%M:%S UTC %Y").to_string()),
            ("Up", format!("{} hr {:02} min {:02} sec", up / 3600, up / 60 % 60, up % 60)),
            ("Binary version", env!("CARGO_PKG_VERSION").to_owned()),
            ("Paths", PATHS.join(" ")),
        ];
        let lines: String =
            lines.iter().map(|(name, value)| format!("{name}{delimiter} {value}\n")).collect();
        format!("\n{lines}")
    }

    fn fields(&self) -> Value {
        let start = Timestamp::from_second(self.start.as_second()).unwrap_or(self.start);
        json!({
            "startTime": start.to_string(),
            "uptimeSeconds": self.uptime(),
            // The type requires it.
            "goVersion": "",
            "binaryVersion": env!("CARGO_PKG_VERSION"),
            "paths": PATHS,
        })
    }
}

/// The flags of `svc-ctl run` and their values.
#[derive(Clone, Debug)]
pub struct Flagz(pub Arc<BTreeMap<String, String>>);

impl Document for Flagz {
    const KIND: &'static str = "Flagz";
    const PATH: &'static str = "flagz";

    fn lines(&self, delimiter: &str) -> String {
        self.0.iter().fold(String::new(), |mut lines, (name, value)| {
            // Writing into a string cannot fail.
            let _ = writeln!(lines, "{name}{delimiter}{value}");
            lines
        })
    }

    fn fields(&self) -> Value {
        json!({ "flags": *self.0 })
    }
}
