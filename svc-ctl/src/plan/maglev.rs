//! Maglev tables (Eisenbud et al., NSDI 2016): every node that knows the same backends makes the same table of them,
//! and a backend that comes or goes moves hardly any place of other backends.
//!
//! A table over up to 256 backends has one page of 4,096 places. It is not filled by Maglev's walks, which move up to 4
//! % more at 100 places per backend: all backends draw for every place (rendezvous, Thaler and Ravishankar 1998), and a
//! backend that has its share takes no more (bounded loads, Mirrokni et al. 2018). More backends would make that slow:
//! larger tables have at least 32 places for each backend and are filled by Maglev's walks.

use std::net::{IpAddr, SocketAddr};

use svc_common::abi::MaglevPage;

/// Places of a table of one page, of one octet each.
const PLACES: usize = MaglevPage::OCTETS as usize;
/// Places on a page of a larger table, of two octets each.
const WIDE_PLACES: usize = PLACES / 2;
/// Places that a larger table has for each backend, at least.
const WIDE_SHARE: usize = 32;
/// Places hold 16 bits.
const MOST_BACKENDS: usize = 1 << 16;

/// Percent above the mean that a backend may have. With a smaller bound more places move without need: at 5 up to 0.5 %.
const SURPLUS: usize = 5;

/// Pages of the table over so many backends. None for fewer than two, where there is nothing to choose, and for more
/// than places can name, which are chosen by the hash of the tuple alone.
pub fn pages(backends: usize) -> u32 {
    match backends {
        0 | 1 => 0,
        n if n <= MaglevPage::NARROW_BACKENDS as usize => 1,
        n if n <= MOST_BACKENDS => ((n * WIDE_SHARE).next_power_of_two() / WIDE_PLACES) as u32,
        _ => 0,
    }
}

/// For each place of the table the index of its backend in `backends`. The backend of a place depends only on addresses
/// and ports, not on the order.
pub fn plan_maglev(backends: &[(IpAddr, u16)]) -> Vec<u16> {
    match pages(backends.len()) {
        0 => Vec::new(),
        1 => draw(backends),
        pages => walk(backends, pages as usize * WIDE_PLACES),
    }
}

/// A fixed hash of a table's places.
pub fn digest(places: &[u16]) -> u64 {
    places.iter().fold(places.len() as u64, |h, &place| mixed(h.rotate_left(5) ^ u64::from(place)))
}

/// Fills a table of one page.
fn draw(backends: &[(IpAddr, u16)]) -> Vec<u16> {
    let most = (PLACES * (100 + SURPLUS)).div_ceil(100 * backends.len());
    let order = ordered(backends);
    let seeds: Vec<u64> = order.iter().map(|&i| fnv1a(backends[i].into())).collect();
    let mut taken = vec![0; backends.len()];
    let owner = |place: usize| {
        let mark = (place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (mut winner, mut best) = (None, 0);
        for (n, seed) in seeds.iter().enumerate() {
            let score = mixed(seed ^ mark);
            if taken[n] < most && (winner.is_none() || score >= best) {
                (winner, best) = (Some(n), score);
            }
        }
        let winner = winner.unwrap_or_default();
        taken[winner] += 1;
        order[winner] as u16
    };
    (0..PLACES).map(owner).collect()
}

/// Fills a larger table: each backend in turn takes the first free place of its own permutation of all places.
fn walk(backends: &[(IpAddr, u16)], places: usize) -> Vec<u16> {
    let order = ordered(backends);
    let mut table: Vec<Option<u16>> = vec![None; places];
    let mut walks: Vec<(usize, usize)> = order
        .iter()
        .map(|&i| {
            let hash = fnv1a(backends[i].into());
            // An odd step meets every place of a power of two.
            ((hash >> 32) as usize % places, (hash as u32 as usize % places) | 1)
        })
        .collect();
    let mut left = places;
    while left > 0 {
        for (&backend, (at, step)) in order.iter().zip(&mut walks).take(left) {
            while table[*at].is_some() {
                *at = (*at + *step) % places;
            }
            table[*at] = Some(backend as u16);
            left -= 1;
        }
    }
    table.into_iter().map(Option::unwrap_or_default).collect()
}

/// Indices in the order of addresses and ports, which is the same on every node.
fn ordered(backends: &[(IpAddr, u16)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..backends.len()).collect();
    order.sort_by_key(|&i| backends[i]);
    order
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

    /// The backend of each place.
    fn owners(backends: &[(IpAddr, u16)]) -> Vec<(IpAddr, u16)> {
        plan_maglev(backends).into_iter().map(|i| backends[usize::from(i)]).collect()
    }

    #[test]
    fn every_node_makes_the_same_table() {
        let here = backends(10);
        let there: Vec<_> = here.iter().rev().copied().collect();
        assert_eq!(owners(&here), owners(&there));
        // Nodes of different versions must agree as well: the hash is for ever.
        let start: Vec<u16> = plan_maglev(&backends(3)).into_iter().take(12).collect();
        assert_eq!(start, [2, 1, 1, 0, 0, 0, 0, 0, 1, 2, 2, 2]);
    }

    #[test]
    fn no_backend_has_more_than_five_percent_above_its_share() {
        for count in [2, 3, 5, 10, 17, 65, 130] {
            let backends = backends(count);
            let mut shares = vec![0_usize; backends.len()];
            plan_maglev(&backends).iter().for_each(|&i| shares[usize::from(i)] += 1);
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
                // One backend needs no table, because it would have every place.
                let after = if rest.len() > 1 { owners(&rest) } else { vec![rest[0]; PLACES] };
                assert_eq!(before.len(), after.len());
                let moved = before.iter().zip(&after).filter(|(b, a)| **b != lost && b != a).count();
                let extra = moved as f64 / before.len() as f64;
                assert!(extra <= 0.01, "{count} without the {gone}th: {extra:.4} moved for nothing");
            }
        }
    }

    #[test]
    fn a_large_table_gives_every_backend_its_share_and_moves_little() {
        let all = backends(5_000);
        let before = owners(&all);
        assert_eq!(before.len(), pages(5_000) as usize * WIDE_PLACES);
        let mut shares = std::collections::BTreeMap::<_, usize>::new();
        before.iter().for_each(|b| *shares.entry(*b).or_default() += 1);
        let (least, most) = (shares.values().min().unwrap(), shares.values().max().unwrap());
        assert!(shares.len() == 5_000 && most - least <= 1, "{} {least} {most}", shares.len());
        let mut rest = all;
        let lost = rest.remove(2_500);
        let moved = before.iter().zip(&owners(&rest)).filter(|(b, a)| **b != lost && b != a).count();
        assert!(moved as f64 / before.len() as f64 <= 0.05, "{moved} of {}", before.len());
    }

    #[test]
    fn one_backend_needs_no_table() {
        assert!(plan_maglev(&backends(1)).is_empty() && plan_maglev(&[]).is_empty());
    }
}
