//! Maglev tables (Eisenbud et al., NSDI 2016, section 3.4): every node that knows the same backends makes the same table
//! of them, and a backend that comes or goes moves few places but its own.

use std::net::{IpAddr, SocketAddr};

/// Places per backend: with that many, a backend that goes moves less than one place in a hundred beyond its own (tried
/// with 100: up to four, with 256: up to 1.5).
const PLACES_PER_BACKEND: usize = 512;

/// For each place of the table the index of its backend in `backends`. The table depends on addresses and ports alone,
/// not on ids or order. Nothing for fewer than two: there is nothing to choose.
pub fn plan_maglev(backends: &[(IpAddr, u16)]) -> Vec<usize> {
    if backends.len() < 2 {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..backends.len()).collect();
    order.sort_by_key(|&i| backends[i]);
    let size = size_for(backends.len());
    let mut walks: Vec<Walk> = order.iter().map(|&i| Walk::new(backends[i].into(), size)).collect();
    let mut table = vec![usize::MAX; size];
    let mut filled = 0;
    loop {
        for (walk, &backend) in walks.iter_mut().zip(&order) {
            let place = std::iter::repeat_with(|| walk.next()).find(|&place| table[place] == usize::MAX);
            let Some(place) = place else { return table };
            table[place] = backend;
            filled += 1;
            if filled == size {
                return table;
            }
        }
    }
}

/// A prime, so that every walk meets every place. The same for 2 to 4 backends, for 5 to 16, for 17 to 64 and so on: a
/// table of another size has hardly a place in common.
fn size_for(backends: usize) -> usize {
    let class = std::iter::successors(Some(4_usize), |c| c.checked_mul(4)).find(|&class| class >= backends);
    let wanted = class.unwrap_or(backends) * PLACES_PER_BACKEND;
    (wanted..).find(|&n| is_prime(n)).unwrap_or(wanted)
}

fn is_prime(n: usize) -> bool {
    n > 1 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}

/// A backend's own order of the places.
struct Walk {
    next: usize,
    step: usize,
    size: usize,
}

impl Walk {
    fn new(backend: SocketAddr, size: usize) -> Self {
        let hash = |seed| (fnv1a(seed, backend) % (size as u64 - 1)) as usize;
        Self { next: hash(1), step: 1 + hash(2) % (size - 1), size }
    }

    fn next(&mut self) -> usize {
        let place = self.next;
        self.next = (self.next + self.step) % self.size;
        place
    }
}

/// The 64-bit FNV-1a hash of a backend, its bits mixed once more. Never to be changed: nodes of different versions must
/// agree.
fn fnv1a(seed: u64, backend: SocketAddr) -> u64 {
    let octets = match backend.ip() {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    let all = octets.into_iter().chain(backend.port().to_be_bytes());
    let hash =
        all.fold(0xcbf2_9ce4_8422_2325 ^ seed, |h, o| (h ^ u64::from(o)).wrapping_mul(0x100_0000_01b3));
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ (mixed >> 32)
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
        assert_eq!(start, [0, 2, 0, 0, 2, 1, 1, 0, 2, 2, 1, 2]);
    }

    #[test]
    fn backends_have_equally_many_places() {
        for count in [2, 3, 10, 100] {
            let backends = backends(count);
            let table = plan_maglev(&backends);
            let mut shares = vec![0_usize; backends.len()];
            table.iter().for_each(|&i| shares[i] += 1);
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            assert!(most - least <= 1, "{count}: {least} to {most}");
        }
    }

    #[test]
    fn a_backend_that_goes_moves_its_own_places_and_one_percent_more() {
        for count in [3, 4, 6, 10, 16, 18, 30, 64, 100] {
            let all = backends(count);
            for gone in [0, usize::from(count) / 2, usize::from(count) - 1] {
                let mut rest = all.clone();
                let lost = rest.remove(gone);
                let (before, after) = (owners(&all), owners(&rest));
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
