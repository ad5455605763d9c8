//! Shrinks a failing case: fewer steps, Services and endpoints, as long as it fails.

use svc_tests::model::world::World;

use super::case::{Case, Step};

/// The smallest failing case that leaving things out leads to.
pub fn shrink(mut case: Case, mut fails: impl FnMut(&Case) -> bool) -> Case {
    loop {
        let size = size(&case);
        // Runs of steps, half as long each time.
        let mut run = case.steps.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            while at < case.steps.len() {
                let mut next = case.clone();
                next.steps.drain(at..(at + run).min(case.steps.len()));
                if fails(&next) { case = next } else { at += run }
            }
            if run == 1 {
                break;
            }
            run /= 2;
        }
        for i in 0..worlds(&mut case).len() {
            for leave_out in [service, slice, endpoint, port] {
                let mut at = 0;
                loop {
                    let mut next = case.clone();
                    if !leave_out(worlds(&mut next)[i], at) {
                        break;
                    }
                    if fails(&next) { case = next } else { at += 1 }
                }
            }
        }
        if self::size(&case) == size {
            return case;
        }
    }
}

fn size(case: &Case) -> usize {
    let mut case = case.clone();
    let of = |w: &World| {
        let endpoints: usize = w.slices.iter().map(|s| 1 + s.endpoints.len()).sum();
        endpoints + w.services.iter().map(|s| 1 + s.ports.len()).sum::<usize>()
    };
    case.steps.len() + worlds(&mut case).iter().map(|w| of(w)).sum::<usize>()
}

fn worlds(case: &mut Case) -> Vec<&mut World> {
    let later = case.steps.iter_mut().filter_map(|step| match step {
        Step::Change(world) => Some(&mut **world),
        Step::Client { .. }
        | Step::Backend { .. }
        | Step::Direct { .. }
        | Step::Error { .. }
        | Step::Age(_) => None,
    });
    std::iter::once(&mut case.world).chain(later).collect()
}

/// Each function leaves out the n-th object of its kind. False if there is none.
fn service(world: &mut World, n: usize) -> bool {
    (n < world.services.len()).then(|| world.services.remove(n)).is_some()
}

fn slice(world: &mut World, n: usize) -> bool {
    (n < world.slices.len()).then(|| world.slices.remove(n)).is_some()
}

fn endpoint(world: &mut World, n: usize) -> bool {
    let mut left = n;
    for slice in &mut world.slices {
        if left < slice.endpoints.len() {
            slice.endpoints.remove(left);
            return true;
        }
        left -= slice.endpoints.len();
    }
    false
}

/// A Service must have a port.
fn port(world: &mut World, n: usize) -> bool {
    let mut left = n;
    for service in world.services.iter_mut().filter(|service| service.ports.len() > 1) {
        if left < service.ports.len() {
            service.ports.remove(left);
            return true;
        }
        left -= service.ports.len();
    }
    false
}
