//! Decides at which hook each translation happens and how the packet leaves (ARCHITECTURE.md, "Where each packet is
//! translated").

use crate::abi::{Exit, Hook, Locality, Role};

/// Facts that decide where a new flow is translated.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// Role of the interface by which the client's packet came.
    pub client: Role,
    /// The client's address must be replaced by this node's (SEM-081 to SEM-085).
    pub masquerades: bool,
    pub backend: Locality,
    /// The backend is the client itself (SEM-084).
    pub is_hairpin: bool,
    /// Client and backend are behind ports of one bridge, so replies do not pass the client's interface in the stack.
    pub same_bridge: bool,
    /// Masqueraded packets go through the stack instead of past it.
    pub through_stack: bool,
    /// Packets from outside to pods of this node go past the stack, and replies of the node's own servers leave by the
    /// route of the address that was dialled.
    pub local_past_stack: bool,
}

/// The hooks that translate the two directions of a flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Placement {
    /// The backend sees an address of this node. With `Exit::STACK` a second flow, from client to backend, does the
    /// SNAT at egress.
    pub snat: bool,
    pub exit: Exit,
    /// The hook at which replies look up their record. The forward record is always at ingress.
    pub reverse_hook: Hook,
}

impl Situation {
    #[inline(always)]
    pub fn placement(self) -> Placement {
        let through_stack = Placement {
            snat: false,
            exit: Exit::STACK,
            reverse_hook: if self.client == Role::POD { Hook::POD_EGRESS } else { Hook::UPLINK_EGRESS },
        };
        if self.backend == Locality::HOST {
            // Delivered on this node: no masquerade (SEM-086). The node's reply has the backend's address until egress.
            let by_source = self.client == Role::UPLINK && self.local_past_stack;
            Placement { exit: if by_source { Exit::STACK_BY_SOURCE } else { Exit::STACK }, ..through_stack }
        } else if self.client == Role::POD && self.is_hairpin {
            Placement { snat: true, exit: Exit::HAIRPIN, reverse_hook: Hook::INGRESS }
        } else if self.masquerades && self.through_stack {
            Placement { snat: true, ..through_stack }
        } else if self.masquerades {
            // The packet has an address of this node as its source, so it must not enter the stack.
            Placement { snat: true, exit: Exit::REDIRECT, reverse_hook: Hook::INGRESS }
        } else if self.client == Role::POD && self.same_bridge {
            Placement { snat: false, exit: Exit::REDIRECT, reverse_hook: Hook::INGRESS }
        } else if self.backend == Locality::LOCAL && self.same_bridge {
            // The bridge is the uplink itself. Replies to another address than the node's would not pass it.
            Placement { snat: true, exit: Exit::REDIRECT, reverse_hook: Hook::INGRESS }
        } else if self.client == Role::UPLINK && self.backend == Locality::LOCAL && self.local_past_stack {
            // The reply is routed with the Service's address as its source, as the request came.
            Placement { snat: false, exit: Exit::REDIRECT, reverse_hook: Hook::INGRESS }
        } else {
            through_stack
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_situation_has_its_placement() {
        let (pod, up) = (Role::POD, Role::UPLINK);
        let (local, remote, host) = (Locality::LOCAL, Locality::REMOTE, Locality::HOST);
        let (stack, redirect, back) = (Exit::STACK, Exit::REDIRECT, Exit::HAIRPIN);
        let (ingress, pod_out, up_out) = (Hook::INGRESS, Hook::POD_EGRESS, Hook::UPLINK_EGRESS);
        // client, masquerades, backend, hairpin, same bridge -> snat, exit, reverse
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
            ((up, false, local, false, true), (true, redirect, ingress)),
            ((up, false, remote, false, true), (false, stack, up_out)),
        ];
        for ((client, masquerades, backend, is_hairpin, same_bridge), (snat, exit, reverse_hook)) in rows {
            let s = Situation {
                client,
                masquerades,
                backend,
                is_hairpin,
                same_bridge,
                through_stack: false,
                local_past_stack: false,
            };
            assert_eq!(s.placement(), Placement { snat, exit, reverse_hook }, "{s:?}");
        }
    }

    #[test]
    fn pods_of_a_node_that_routes_by_source_are_reached_past_the_stack() {
        let of = |client, backend| {
            Situation {
                client,
                masquerades: false,
                backend,
                is_hairpin: false,
                same_bridge: false,
                through_stack: false,
                local_past_stack: true,
            }
            .placement()
            .exit
        };
        assert_eq!(of(Role::UPLINK, Locality::LOCAL), Exit::REDIRECT);
        assert_eq!(of(Role::UPLINK, Locality::HOST), Exit::STACK_BY_SOURCE);
        for (client, backend) in
            [(Role::POD, Locality::HOST), (Role::UPLINK, Locality::REMOTE), (Role::POD, Locality::LOCAL)]
        {
            assert_eq!(of(client, backend), Exit::STACK);
        }
    }

    #[test]
    fn a_masquerade_through_the_stack_is_reversed_at_the_clients_interface() {
        let of = |client, backend, is_hairpin| {
            Situation {
                client,
                masquerades: true,
                backend,
                is_hairpin,
                same_bridge: false,
                through_stack: true,
                local_past_stack: false,
            }
            .placement()
        };
        for backend in [Locality::LOCAL, Locality::REMOTE] {
            let stack = Placement { snat: true, exit: Exit::STACK, reverse_hook: Hook::UPLINK_EGRESS };
            assert_eq!(of(Role::UPLINK, backend, false), stack);
            assert_eq!(of(Role::POD, backend, false), Placement { reverse_hook: Hook::POD_EGRESS, ..stack });
        }
        assert_eq!(of(Role::POD, Locality::LOCAL, true).exit, Exit::HAIRPIN);
        assert!(!of(Role::UPLINK, Locality::HOST, false).snat);
    }
}
