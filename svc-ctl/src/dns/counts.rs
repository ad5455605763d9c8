//! Counts of responses, for the metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hickory_server::proto::op::ResponseCode;

/// Codes with a count of their own, and their names (RFC 1035). All others are counted as the last one.
const CODES: [(Option<ResponseCode>, &str); 7] = [
    (Some(ResponseCode::NoError), "NOERROR"),
    (Some(ResponseCode::NXDomain), "NXDOMAIN"),
    (Some(ResponseCode::ServFail), "SERVFAIL"),
    (Some(ResponseCode::Refused), "REFUSED"),
    (Some(ResponseCode::FormErr), "FORMERR"),
    (Some(ResponseCode::NotImp), "NOTIMP"),
    (None, "other"),
];

/// Responses since the start. A clone counts into the same numbers.
#[derive(Clone, Debug, Default)]
pub struct DnsCounts(Arc<[[AtomicU64; CODES.len()]; 2]>);

impl DnsCounts {
    /// `is_ours`: the name is of the cluster's domain.
    pub fn responded(&self, code: ResponseCode, is_ours: bool) {
        let [other, cluster] = &*self.0;
        let of_domain = if is_ours { cluster } else { other };
        let place = CODES.iter().position(|(known, _)| known.is_none_or(|known| known == code));
        if let Some(count) = place.and_then(|place| of_domain.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Domain (`cluster` or `other`), code and count.
    pub fn read(&self) -> Vec<(&'static str, &'static str, u64)> {
        let domains = ["other", "cluster"].into_iter().zip(self.0.iter());
        let rows = domains.flat_map(|(domain, counts)| {
            let of_code = move |((_, code), count): (&(_, &'static str), &AtomicU64)| {
                (domain, *code, count.load(Ordering::Relaxed))
            };
            CODES.iter().zip(counts).map(of_code)
        });
        rows.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_count_by_domain_and_code() {
        let counts = DnsCounts::default();
        counts.responded(ResponseCode::NoError, true);
        counts.responded(ResponseCode::NoError, true);
        counts.responded(ResponseCode::ServFail, false);
        counts.responded(ResponseCode::BADVERS, false);
        let seen: Vec<_> = counts.read().into_iter().filter(|(_, _, count)| *count > 0).collect();
        let expected = [("other", "SERVFAIL", 1), ("other", "other", 1), ("cluster", "NOERROR", 2)];
        assert_eq!(seen, expected);
        assert_eq!(counts.read().len(), 14);
    }
}
