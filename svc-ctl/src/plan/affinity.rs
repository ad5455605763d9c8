//! The backends that clients of a service port with session affinity may keep. Entries of the kernel's affinity table for
//! other backends are removed. So an endpoint that comes back does not get its old clients back (SEM-233), and affinity
//! that is switched on begins with an empty table (SEM-235).

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;
use svc_common::abi::{BackendId, ServicePortId};

/// Every endpoint that Kubernetes lists, whether or not it may be selected now. Only service ports with affinity are here.
pub type AffinityBackends = OrdMap<ServicePortId, Arc<BTreeSet<BackendId>>>;
