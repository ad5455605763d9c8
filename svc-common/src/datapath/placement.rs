//! The placement law: at which hook each translation happens and how the packet goes on (ARCHITECTURE.md, "Where
//! each packet is translated").

use crate::abi::{Hook, Locality, Role, Way};

/// What decides where a new flow is translated.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// Role of the interface by which the client's packet came.
    pub client: Role,
    /// The client's address is to be replaced by this node's (SEM-081 to SEM-085).
    pub masquerades: bool,
    pub backend: Locality,
    /// The backend is the client itself (SEM-084).
    pub is_hairpin: bool,
    /// Client and backend are ports of one bridge: replies would not pass the client's side of the stack.
    pub same_bridge: bool,
    /// Masqueraded packets go through the stack instead of past it.
    pub through_stack: bool,
}

/// Where a flow's two directions are translated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Placement {
    /// The backend sees an address of this node. Where the way is `Way::STACK` a second flow does it: from client to backend,
    /// at the egress by which it leaves.
    pub snat: bool,
    pub way: Way,
    /// Where replies meet their record. The forward record is always at ingress.
    pub reverse_hook: Hook,
}

impl Situation {
    #[inline(always)]
    pub fn placement(self) -> Placement {
        let through_stack = Placement {
            snat: false,
            way: Way::STACK,
            reverse_hook: if self.client == Role::POD { Hook::POD_EGRESS } else { Hook::UPLINK_EGRESS },
        };
        if self.backend == Locality::HOST {
            // Delivered locally, never leaves: no masquerade (SEM-086).
            through_stack
        } else if self.client == Role::POD && self.is_hairpin {
            Placement { snat: true, way: Way::BACK, reverse_hook: Hook::INGRESS }
        } else if self.masquerades && self.through_stack {
            Placement { snat: true, ..through_stack }
        } else if self.masquerades {
            // Its source is an address of this node: it never enters the stack (placement law c).
            Placement { snat: true, way: Way::REDIRECT, reverse_hook: Hook::INGRESS }
        } else if self.client == Role::POD && self.same_bridge {
            Placement { snat: false, way: Way::REDIRECT, reverse_hook: Hook::INGRESS }
        } else {
            through_stack
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_situation_has_its_place() {
        let (pod, up) = (Role::POD, Role::UPLINK);
        let (local, remote, host) = (Locality::LOCAL, Locality::REMOTE, Locality::HOST);
        let (stack, redirect, back) = (Way::STACK, Way::REDIRECT, Way::BACK);
        let (ingress, pod_out, up_out) = (Hook::INGRESS, Hook::POD_EGRESS, Hook::UPLINK_EGRESS);
        // client, masquerades, backend, hairpin, same bridge -> snat, way, reverse
        let rows = [
            ((pod, false, local, false, false), (false, stack, pod_out)),
            ((pod, false, local, false, true), (false, redirect, ingress)),
            ((pod, false, local, true, false), (true, back, ingress)),
            ((pod, false, local, true, true), (true, back, ingress)),
            ((pod, false, remote, false, false), (false, stack, pod_out)),
            ((pod, false, host, false, false), (false, stack, pod_out)),
            ((pod, true, local, false, false), (true, redirect, ingress)),
            ((pod, true, local, false, true), (true, redirect, ingress)),
            ((pod, true, local, true, false), (true, back, ingress)),
            ((pod, true, remote, false, false), (true, redirect, ingress)),
            ((pod, true, host, false, false), (false, stack, pod_out)),
            ((up, true, local, false, false), (true, redirect, ingress)),
            ((up, true, remote, false, false), (true, redirect, ingress)),
            ((up, true, host, false, false), (false, stack, up_out)),
            ((up, false, remote, false, false), (false, stack, up_out)),
            ((up, false, local, false, false), (false, stack, up_out)),
        ];
        for ((client, masquerades, backend, is_hairpin, same_bridge), (snat, way, reverse_hook)) in rows {
            let s = Situation { client, masquerades, backend, is_hairpin, same_bridge, through_stack: false };
            assert_eq!(s.placement(), Placement { snat, way, reverse_hook }, "{s:?}");
        }
    }

    #[test]
    fn what_is_masqueraded_through_the_stack_is_reversed_on_the_clients_side() {
        let of = |client, backend, is_hairpin| {
            Situation {
                client,
                masquerades: true,
                backend,
                is_hairpin,
                same_bridge: false,
                through_stack: true,
            }
            .placement()
        };
        for backend in [Locality::LOCAL, Locality::REMOTE] {
            let stack = Placement { snat: true, way: Way::STACK, reverse_hook: Hook::UPLINK_EGRESS };
            assert_eq!(of(Role::UPLINK, backend, false), stack);
            assert_eq!(of(Role::POD, backend, false), Placement { reverse_hook: Hook::POD_EGRESS, ..stack });
        }
        assert_eq!(of(Role::POD, Locality::LOCAL, true).way, Way::BACK);
        assert!(!of(Role::UPLINK, Locality::HOST, false).snat);
    }
}
