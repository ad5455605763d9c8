//! Where clients of a service port with session affinity may stay. Entries of the kernel's table that are not among
//! these are removed: an endpoint that comes back does not get its old clients back (SEM-233), and affinity that is
//! switched on begins with an empty table (SEM-235).

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;
use svc_common::abi::{BackendId, ServicePortId};

/// Every endpoint that Kubernetes lists, whether it may be chosen now or not; of service ports with affinity alone.
pub type Stays = OrdMap<ServicePortId, Arc<BTreeSet<BackendId>>>;
