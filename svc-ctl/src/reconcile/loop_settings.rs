//! Settings of the loop.

/// Settings that do not change while the loop runs.
#[derive(Clone, Debug)]
pub struct LoopSettings {
    pub node_name: String,
    /// The world also has the objects that only DNS reads.
    pub keeps_names: bool,
    /// No table grows beyond so many entries.
    pub most_entries: u32,
    /// `spec.externalIPs` of Services are served.
    pub serves_external_ips: bool,
}

impl Default for LoopSettings {
    fn default() -> Self {
        Self {
            node_name: String::new(),
            keeps_names: false,
            most_entries: u32::MAX,
            serves_external_ips: true,
        }
    }
}
