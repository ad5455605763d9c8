//! MetalLB's objects as the API server has them, and the settings that follow from them. Pure.

mod advertisement;
mod bgp;
pub mod merge;
mod pool;

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::selector::Labels;
use crate::model::complaint::Complaint;

/// Group of the objects' API.
pub const GROUP: &str = "metallb.io";

/// Kind of an object.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    Pool,
    L2Advertisement,
    BgpPeer,
    BgpAdvertisement,
    Community,
}

impl Kind {
    /// Without pools the other kinds mean nothing.
    pub const OTHERS: [Self; 4] =
        [Self::L2Advertisement, Self::BgpPeer, Self::BgpAdvertisement, Self::Community];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Pool => "IPAddressPool",
            Self::L2Advertisement => "L2Advertisement",
            Self::BgpPeer => "BGPPeer",
            Self::BgpAdvertisement => "BGPAdvertisement",
            Self::Community => "Community",
        }
    }

    pub const fn version(self) -> &'static str {
        match self {
            Self::BgpPeer => "v1beta2",
            _ => "v1beta1",
        }
    }

    pub const fn plural(self) -> &'static str {
        match self {
            Self::Pool => "ipaddresspools",
            Self::L2Advertisement => "l2advertisements",
            Self::BgpPeer => "bgppeers",
            Self::BgpAdvertisement => "bgpadvertisements",
            Self::Community => "communities",
        }
    }
}

/// The parts of an object that svc reads.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Object {
    pub namespace: String,
    /// Seconds since 1970: of two pools that overlap the older one gives addresses.
    pub created: Option<i64>,
    pub labels: Labels,
    pub spec: Value,
}

impl Object {
    fn complaint(&self, kind: Kind, name: &str, field: &str, reason: String) -> Complaint {
        let object = format!("{} {}/{name}", kind.name(), self.namespace);
        Complaint::refused(
            object,
            if field == "." { "spec".to_owned() } else { format!("spec.{field}") },
            reason,
        )
    }

    /// The contents, or the field that is wrong and the reason.
    fn read<T: DeserializeOwned>(&self) -> Result<T, (String, String)> {
        // A missing spec is an empty one.
        let spec = if self.spec.is_null() { Value::Object(Default::default()) } else { self.spec.clone() };
        serde_path_to_error::deserialize(spec)
            .map_err(|error| (error.path().to_string(), error.into_inner().to_string()))
    }

    /// Complaints about fields that svc does not know: a newer MetalLB may have them.
    fn remarks(&self, kind: Kind, name: &str, known: &[&str]) -> Vec<Complaint> {
        self.unknown("", known).iter().map(|field| self.unknown_field(kind, name, field)).collect()
    }

    fn unknown_field(&self, kind: Kind, name: &str, field: &str) -> Complaint {
        self.complaint(kind, name, field, "svc does not know this field: it has no effect".to_owned())
    }

    /// Fields of the spec or of one below it that are not known.
    fn unknown(&self, below: &str, known: &[&str]) -> Vec<String> {
        let part = if below.is_empty() { Some(&self.spec) } else { self.spec.get(below) };
        let fields = part.and_then(Value::as_object).into_iter().flatten();
        let unknown = fields.filter(|(name, value)| !value.is_null() && !known.contains(&name.as_str()));
        unknown
            .map(|(name, _)| if below.is_empty() { name.clone() } else { format!("{below}.{name}") })
            .collect()
    }
}

/// The contents of an object with remarks on fields that are not used, or why it cannot be used.
type Read<T> = Result<(T, Vec<Complaint>), Complaint>;

/// Objects of a kind by name.
pub type OfKind = BTreeMap<String, Object>;

/// All objects of the kinds that have been read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Objects(BTreeMap<Kind, OfKind>);

impl Objects {
    /// No objects: MetalLB is not installed.
    pub fn none() -> Self {
        let kinds = [Kind::Pool].into_iter().chain(Kind::OTHERS);
        Self(kinds.map(|kind| (kind, OfKind::new())).collect())
    }

    /// Every kind has been read.
    pub fn are_known(&self) -> bool {
        [Kind::Pool].iter().chain(&Kind::OTHERS).all(|kind| self.0.contains_key(kind))
    }

    /// Returns true if they differ from those before.
    pub fn set(&mut self, kind: Kind, objects: OfKind) -> bool {
        let is_new = self.0.get(&kind) != Some(&objects);
        self.0.insert(kind, objects);
        is_new
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = (&String, &Object)> {
        self.0.get(&kind).into_iter().flatten()
    }
}
