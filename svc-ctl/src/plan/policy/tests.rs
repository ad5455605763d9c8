//! A row per rule of categorisation; each names it.

use super::*;

const NODE: &str = "test-node";

/// One endpoint: `NUMBER[L|?][STATE][{HINT,..}]`. L: on this node; ?: on none. States: nr: neither ready nor serving;
/// st: serving and terminating; t: terminating only; ns: serving only; rn: ready and not serving; rt: so, and
/// terminating. A hint in lower case is a zone, in upper case a node (N: this one).
fn endpoint(text: &str) -> Endpoint {
    let (head, hints) = text.split_once('{').unwrap_or((text, "}"));
    let hints: Vec<&str> = hints.trim_end_matches('}').split(',').filter(|h| !h.is_empty()).collect();
    let number: String = head.chars().take_while(char::is_ascii_digit).collect();
    let rest = &head[number.len()..];
    let (node, state) = match rest.strip_prefix('L') {
        Some(state) => (Some(NODE), state),
        None => rest.strip_prefix('?').map_or((Some("other"), rest), |state| (None, state)),
    };
    let (ready, serving, terminating) = match state {
        "" => (true, true, false),
        "nr" => (false, false, false),
        "st" => (false, true, true),
        "t" => (false, false, true),
        "ns" => (false, true, false),
        "rn" => (true, false, false),
        "rt" => (true, false, true),
        other => panic!("unknown state {other:?}"),
    };
    let node_name = |h: &str| if h == "N" { NODE.into() } else { h.into() };
    let is_node = |h: &str| h.chars().all(char::is_uppercase);
    Endpoint {
        addr: format!("10.0.0.{number}").parse().unwrap(),
        ready,
        serving,
        terminating,
        node: node.map(Into::into),
        hints: Hints::new(
            hints.iter().filter(|h| !is_node(h)).map(|h| format!("zone-{h}").as_str().into()),
            hints.iter().filter(|h| is_node(h)).map(|h| node_name(h)),
        ),
    }
}

/// `i`: internal policy Local; `e`: external policy Local; `x`: externally accessible.
fn policy(text: &str) -> Policy {
    Policy {
        internal_local: text.contains('i'),
        external_local: text.contains('e'),
        externally_accessible: text.contains('x'),
    }
}

fn numbers(list: &[PortEndpoint<'_>]) -> String {
    let last = |e: &PortEndpoint<'_>| e.endpoint.addr.to_string().rsplit('.').next().unwrap_or("").to_owned();
    list.iter().map(last).collect::<Vec<_>>().join(" ")
}

/// Rule, policy, zone, endpoints; then the cluster list, the local list, and whether one is usable anywhere.
const ROWS: &str = "
PAR-160 SEM-072 hints for this zone                                        | -   | a | 3{a} 4{b} 5{c} 6{a}         | 3 6     | -   | yes
PAR-161 SEM-063 the local list knows no hints                              | ex  | a | 3L{a} 4L{b} 5{c} 6{a}       | 3 6     | 3 4 | yes
PAR-162 SEM-063 with the internal policy neither                           | ix  | a | 3L{a} 4L{b} 5{c} 6{a}       | 3 6     | 3 4 | yes
PAR-163 SEM-073 a node without a zone                                      | -   | - | 3{a}                        | 3       | -   | yes
PAR-164 SEM-073 no endpoint for this zone                                  | -   | b | 3{a}                        | 3       | -   | yes
PAR-165 SEM-072 one in the zone is not ready                               | -   | a | 3{a} 4{b} 5{c} 6nr{a}       | 3       | -   | yes
PAR-166 SEM-073 none in the zone is ready                                  | -   | a | 3nr{a} 4{b} 5{c} 6nr{a}     | 4 5     | -   | yes
PAR-167 SEM-073 one without a hint                                         | -   | a | 3{a} 4{b} 5 6{a}            | 3 4 5 6 | -   | yes
PAR-168 SEM-072 several zones each                                         | -   | c | 3{a,b,c} 4{b,c} 5{b,d} 6{c} | 3 4 6   | -   | yes
PAR-169 SEM-065 nothing anywhere                                           | i   | a | -                           | -       | -   | no
PAR-170 SEM-065 nothing here, something elsewhere                          | i   | a | 0 1                         | -       | -   | yes
PAR-171 internal policy Local, one here                                    | i   | a | 0L 1                        | -       | 0   | yes
PAR-172 SEM-064 none is ready                                              | -   | a | 0nr 1nr                     | -       | -   | no
PAR-173 all are terminating                                                | -   | a | 0Lst 1st                    | 0 1     | -   | yes
PAR-174 SEM-060 internal Local and accessible needs both lists             | ix  | a | 0L 1                        | 0 1     | 0   | yes
PAR-175 SEM-061 external Local and accessible needs both lists             | ex  | a | 0L 1                        | 0 1     | 0   | yes
PAR-176 SEM-060 both Local and accessible needs both lists                 | iex | a | 0st 1st                     | 0 1     | -   | yes
PAR-177 SEM-062 the local list falls back where the other need not         | ex  | a | 0 1Lnr 2Lst 3st             | 0       | 2   | yes
PAR-178 SEM-061 external Local without an external frontend                | e   | a | 0 1L                        | 0 1     | -   | yes
PAR-179 SEM-060 internal Local alone needs no cluster list                 | i   | a | 0 1L                        | -       | 1   | yes
PAR-180 SEM-071 SEM-076 hints for this node                                | -   | a | 1{N} 2{M}                   | 1       | -   | yes
PAR-181 SEM-071 hints for other nodes, then zones                          | -   | a | 1{M,a} 2{O,b}               | 1       | -   | yes
PAR-182 SEM-071 one without a node hint, then zones                        | -   | a | 1{N,a} 2{a} 3{M,b}          | 1 2     | -   | yes
PAR-080 ready ones, here and elsewhere                                     | ex  | - | 1L 2L 3Lst 4Lt 5            | 1 2 5   | 1 2 | yes
PAR-081 SEM-062 the cluster list does not fall back while others are ready | ex  | - | 2Lst 3Lst 4Lt 5             | 5       | 2 3 | yes
PAR-082 SEM-062 only the cluster list has a fallback                       | ex  | - | 5st                         | 5       | -   | yes
PAR-083 SEM-064 terminating and not serving                                | ex  | - | 5Lt 6t                      | -       | -   | no
PAR-084 no endpoints                                                       | ex  | - | -                           | -       | -   | no
PAR-085 ready ones, policy Cluster                                         | x   | - | 1L 2L 3st 4t 5              | 1 2 5   | -   | yes
PAR-086 terminating ones, policy Cluster                                   | x   | - | 2Lst 3Lst 4t 5st            | 2 3 5   | -   | yes
PAR-087 a terminating one elsewhere                                        | x   | - | 5st                         | 5       | -   | yes
PAR-088 SEM-064 none serves                                                | x   | - | 1Lt 2t                      | -       | -   | no
SEM-070 hints of endpoints that are not ready                              | -   | a | 1st{b} 2st{a}               | 1 2     | -   | yes
SEM-070 SEM-072 hints of endpoints that are not ready do not count         | -   | a | 3{a} 4{b} 5ns               | 3       | -   | yes
SEM-073 a node without a zone label, several endpoints                     | -   | - | 3{a} 4{b}                   | 3 4     | -   | yes
SEM-064 serving, neither ready nor terminating                             | iex | a | 1Lns 2ns                    | -       | -   | no
SEM-049 ready is enough, whatever serving says                             | iex | a | 1Lrn 2rn                    | 1 2     | 1   | yes
SEM-049 ready and terminating, not serving                                 | -   | a | 1rt 2nr                     | 1       | -   | yes
SEM-062 the local list falls back alone                                    | iex | a | 1Lst 2                      | 2       | 1   | yes
SEM-062 the cluster list falls back to every terminating one               | ex  | a | 1Lnr 2st                    | 2       | -   | yes
SEM-063 local though hinted to another zone and node                       | ie  | a | 1L{M,b}                     | -       | 1   | yes
SEM-071 this node and no other zone or node                                | -   | a | 1{N,b} 2{M,a} 3{M,N}        | 1 3     | -   | yes
SEM-071 no node has a zone to fall back to                                 | -   | a | 1{M} 2{O}                   | 1 2     | -   | yes
SEM-052 an endpoint without a node is on none                              | i   | a | 1? 2L                       | -       | 2   | yes
";

#[test]
fn endpoints_are_categorised_as_kube_proxy_does() {
    let mut broken = Vec::new();
    for row in ROWS.lines().filter(|line| !line.is_empty()) {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('-')).collect();
        let [rule, flags, zone, list, cluster, local, usable] = cells[..] else { panic!("{row}") };
        let node = NodeInfo {
            zone: (!zone.is_empty()).then(|| format!("zone-{zone}").as_str().into()),
            ..NodeInfo::named(NODE)
        };
        let endpoints: Vec<Endpoint> = list.split(' ').filter(|e| !e.is_empty()).map(endpoint).collect();
        let endpoints: Vec<_> =
            endpoints.iter().map(|endpoint| PortEndpoint { port: 80, endpoint }).collect();
        let found = plan_categories(&endpoints, policy(flags), &node);
        let found = (numbers(&found.cluster), numbers(&found.local), found.usable_anywhere);
        if found != (cluster.to_owned(), local.to_owned(), usable == "yes") {
            broken.push(format!("{rule}: {found:?}"));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
