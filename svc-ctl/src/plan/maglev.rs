//! Maglev tables (Eisenbud et al., NSDI 2016): every node that knows the same backends makes the same table of them, and
//! a backend that comes or goes moves hardly a place but its own. They are filled otherwise than there: Maglev's walks
//! move up to 4 % more at 100 places per backend, so they want larger tables for more backends, and where the size
//! changes nearly all places move. Here every place is drawn for by all backends (rendezvous, Thaler and
//! Ravishankar 1998), and who has its share already stands back (bounded loads, Mirrokni et al. 2018).

use std::net::{IpAddr, SocketAddr};

/// The same for any number of backends: 63 for each of 65.
const PLACES: usize = 4096;

/// What a backend may have above the mean, in percent. With less of it more moves without need: at 5 up to 0.5 %.
const SURPLUS: usize = 5;

/// For each place of the table the index of its backend in `backends`. The table depends on addresses and ports alone,
/// not on ids or order. Nothing for fewer than two: there is nothing to choose.
pub fn plan_maglev(backends: &[(IpAddr, u16)]) -> Vec<usize> {
    if backends.len() < 2 {
        return Vec::new();
    }
    let most = (PLACES * (100 + SURPLUS)).div_ceil(100 * backends.len());
    let mut order: Vec<usize> = (0..backends.len()).collect();
    order.sort_by_key(|&i| backends[i]);
    let seeds: Vec<u64> = backends.iter().map(|&backend| fnv1a(backend.into())).collect();
    let mut taken = vec![0; backends.len()];
    let draw = |place: u64| {
        let mark = place.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let entitled = order.iter().copied().filter(|&i| taken[i] < most);
        let winner = entitled.max_by_key(|&i| mixed(seeds[i] ^ mark))?;
        taken[winner] += 1;
        Some(winner)
    };
    (0..PLACES as u64).filter_map(draw).collect()
}

/// The 64-bit FNV-1a hash of a backend, its bits mixed once more. Never to be changed: nodes of different versions must
/// agree.
fn fnv1a(backend: SocketAddr) -> u64 {
    let octets = match backend.ip() {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    let all = octets.into_iter().chain(backend.port().to_be_bytes());
    mixed(all.fold(0xcbf2_9ce4_8422_2325, |h, o| (h ^ u64::from(o)).wrapping_mul(0x100_0000_01b3)))
}

/// Each bit of the outcome depends on each of the word: MurmurHash3's last step.
const fn mixed(word: u64) -> u64 {
    let word = (word ^ (word >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let word = (word ^ (word >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn backends(count: u16) -> Vec<(IpAddr, u16)> {
        (0..count).map(|n| (Ipv4Addr::from(0x0af4_0000 + u32::from(n) * 7).into(), 8080)).collect()
    }

    /// Who has each place.
    fn owners(backends: &[(IpAddr, u16)]) -> Vec<(IpAddr, u16)> {
        plan_maglev(backends).into_iter().map(|i| backends[i]).collect()
    }

    #[test]
    fn every_node_makes_the_same_table() {
        let here = backends(10);
        let there: Vec<_> = here.iter().rev().copied().collect();
        assert_eq!(owners(&here), owners(&there));
        // Nodes of different versions must agree as well: the hash is for ever.
        let start: Vec<usize> = plan_maglev(&backends(3)).into_iter().take(12).collect();
        assert_eq!(start, [2, 1, 1, 0, 0, 0, 0, 0, 1, 2, 2, 2]);
    }

    #[test]
    fn no_backend_has_more_than_five_percent_above_its_share() {
        for count in [2, 3, 5, 10, 17, 65, 130] {
            let backends = backends(count);
            let mut shares = vec![0_usize; backends.len()];
            plan_maglev(&backends).iter().for_each(|&i| shares[i] += 1);
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            let mean = PLACES as f64 / f64::from(count);
            assert!(*most as f64 <= mean * 1.05 + 1.0, "{count}: {most} of {mean}");
            assert!(*least as f64 >= mean * 0.6, "{count}: {least} of {mean}");
        }
    }

    #[test]
    fn a_backend_that_goes_moves_its_own_places_and_one_percent_more() {
        for count in (2..=40).chain([63, 64, 65, 66, 100, 130]) {
            let all = backends(count);
            let before = owners(&all);
            for gone in [0, usize::from(count) / 2, usize::from(count) - 1] {
                let mut rest = all.clone();
                let lost = rest.remove(gone);
                // Of one backend there is no table: it has every place.
                let after = if rest.len() > 1 { owners(&rest) } else { vec![rest[0]; PLACES] };
                assert_eq!(before.len(), after.len());
                let moved = before.iter().zip(&after).filter(|(b, a)| **b != lost && b != a).count();
                let extra = moved as f64 / before.len() as f64;
                assert!(extra <= 0.01, "{count} without the {gone}th: {extra:.4} moved for nothing");
            }
        }
    }

    #[test]
    fn one_backend_needs_no_table() {
        assert!(plan_maglev(&backends(1)).is_empty() && plan_maglev(&[]).is_empty());
    }
}
