//! [`LeaseView`]: who leads a cluster, for those who only look.

use http::{HeaderMap, header};
use serde_json::Value;

use super::{
    clock::Clock,
    lease::{dry_run, duration, holder, transitions},
};
use crate::{
    api::{dry_run::DryRun, objects::ObjectExt},
    decide::facts::Moment,
};

/// A Lease as anyone sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseView {
    /// Who holds it; `None` when it was released.
    pub holder: Option<String>,
    /// It has a holder and was renewed within its duration.
    pub fresh: bool,
    /// When it was renewed last, by the holder's clock.
    pub renewed: Moment,
    /// How often the holder has changed.
    pub transitions: i64,
    /// What the holder leaves out of what it decides.
    pub dry_run: Option<DryRun>,
}

/// A Lease as anyone sees it, judged by the `Date` of the answer that it came with.
pub(super) fn view(lease: &Value, headers: &HeaderMap) -> LeaseView {
    let now = headers
        .get(header::DATE)
        .and_then(|date| date.to_str().ok())
        .and_then(|date| {
            jiff::fmt::rfc2822::DateTimeParser::new()
                .parse_timestamp(date)
                .ok()
        })
        .map_or_else(|| Clock::real().now(), |date| Moment(date.as_millisecond()));
    let renewed = lease
        .str_at("/spec/renewTime")
        .and_then(|time| time.parse::<jiff::Timestamp>().ok())
        .map_or(Moment(0), |time| Moment(time.as_millisecond()));
    let holder = holder(lease).map(str::to_owned);
    let lasts = i64::try_from(duration(lease).as_millis()).unwrap_or(i64::MAX);
    LeaseView {
        fresh: holder.is_some() && now < renewed.plus(lasts),
        holder,
        renewed,
        transitions: transitions(lease),
        dry_run: dry_run(lease),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lease_is_judged_by_the_date_of_its_answer() {
        let lease = |holder: &str| {
            json!({"spec": {
                "holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 3,
                "renewTime": "2026-11-21T00:00:00.500000Z",
            }})
        };
        let table = [
            ("a", "Sat, 21 Nov 2026 00:00:15 GMT", true),
            ("a", "Sat, 21 Nov 2026 00:00:16 GMT", false),
            // The holder's clock is ahead.
            ("a", "Fri, 20 Nov 2026 23:59:59 GMT", true),
            ("", "Sat, 21 Nov 2026 00:00:01 GMT", false),
        ];
        for (name, date, fresh) in table {
            let headers = HeaderMap::from_iter([(header::DATE, date.parse().unwrap())]);
            let expected = LeaseView {
                holder: (!name.is_empty()).then(|| name.to_owned()),
                fresh,
                renewed: Moment(1_795_219_200_500),
                transitions: 3,
                dry_run: None,
            };
            assert_eq!(view(&lease(name), &headers), expected, "{name:?} {date}");
        }
    }
}
