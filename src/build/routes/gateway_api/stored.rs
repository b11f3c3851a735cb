//! An `HTTPRoute` of ours as it is stored, whoever has edited it since: where it sends requests.

use serde_json::Value;

use super::rules::service_matches;
use crate::{
    api::objects::{ObjectExt, Objects},
    build::routes::affinity::COOKIE,
    decide::{effect::Traffic, plan::Plan},
};

/// The stored rules.
pub(super) struct Stored<'a> {
    plan: &'a Plan,
    objects: &'a Objects,
    there: &'a Value,
}

impl<'a> Stored<'a> {
    pub(super) fn of(plan: &'a Plan, objects: &'a Objects, there: &'a Value) -> Self {
        Self {
            plan,
            objects,
            there,
        }
    }

    /// Where the rules send requests; `None` without one between the two copies. The last rule for all requests that the service takes has the
    /// weight of all; one with another match is no weight.
    pub(super) fn traffic(&self) -> Option<Traffic> {
        let rules = self.there.array_at("/spec/rules");
        let service = service_matches(self.objects);
        let everything = super::maps::matched(&Value::Null);
        let all = |rule: &Value| {
            let matches = rule.array_at("/matches");
            matches == service || matches.iter().all(|m| *m == everything)
        };
        let base = rules
            .iter()
            .rposition(|rule| self.leads_to_copies(rule) && all(rule));
        let share = base.and_then(|base| self.share(&rules[base]));
        let (mut mirror, mut matched, mut sticky) = (0, false, false);
        for (i, rule) in rules.iter().enumerate() {
            mirror = mirror.max(self.mirrored(rule));
            if Some(i) != base && self.share(rule).unwrap_or(0) > 0 {
                if self.is_sticky(rule) {
                    sticky = true;
                } else {
                    matched = true;
                }
            }
        }
        // Users whom a cookie keeps on the canary are served by it, though no weight says so.
        let pinned = matched || (sticky && share.unwrap_or(0) == 0);
        if share.is_none() && !pinned {
            return None;
        }
        Some(Traffic::stored(share.unwrap_or(0), pinned, mirror))
    }

    fn is(&self, backend: &Value, role: &str) -> bool {
        let group = backend.str_at("/group").unwrap_or_default();
        let kind = backend.str_at("/kind").unwrap_or("Service");
        let namespace = backend.str_at("/namespace").unwrap_or(&self.plan.namespace);
        let name = backend.str_at("/name").unwrap_or_default();
        let service = &self.plan.service.name;
        group.is_empty()
            && kind == "Service"
            && namespace == self.plan.namespace
            && name.strip_prefix(service.as_str()) == Some(role)
    }

    /// All backends are the app's, and one at least is a copy.
    fn leads_to_copies(&self, rule: &Value) -> bool {
        let backends = rule.array_at("/backendRefs");
        let copy = |b: &Value| self.is(b, "-primary") || self.is(b, "-canary");
        backends.iter().any(copy) && backends.iter().all(|b| copy(b) || self.is(b, ""))
    }

    /// The canary's percent of a rule; of less than one it is one. Weights are relative, 1 where none is said. `None` where nobody gets anything.
    fn share(&self, rule: &Value) -> Option<u8> {
        let (mut all, mut canary) = (0_i64, 0_i64);
        for backend in rule.array_at("/backendRefs") {
            let weight = backend.int_at("/weight").unwrap_or(1).max(0);
            all = all.checked_add(weight)?;
            if self.is(backend, "-canary") {
                canary = canary.checked_add(weight)?;
            }
        }
        if all == 0 {
            return None;
        }
        let share = canary.checked_mul(100)?.checked_add(all - 1)? / all;
        Some(u8::try_from(share).unwrap_or(100))
    }

    /// Percent of a rule's requests that are copied to the canary; without a percentage all are.
    fn mirrored(&self, rule: &Value) -> u8 {
        let filters = rule.array_at("/filters").iter();
        let mirrors = filters.map(|filter| &filter["requestMirror"]);
        let ours = mirrors.filter(|mirror| self.is(&mirror["backendRef"], "-canary"));
        let percent = |mirror: &Value| {
            if let Some(percent) = mirror.int_at("/percent") {
                return percent;
            }
            let Some(part) = mirror.int_at("/fraction/numerator") else {
                return 100;
            };
            let of = mirror.int_at("/fraction/denominator").unwrap_or(100).max(1);
            part.saturating_mul(100).saturating_add(of - 1) / of
        };
        let most = ours.map(percent).max().unwrap_or(0);
        u8::try_from(most.clamp(0, 100)).unwrap_or(100)
    }

    /// Every match asks for our cookie.
    fn is_sticky(&self, rule: &Value) -> bool {
        let Some(affinity) = &self.plan.affinity else {
            return false;
        };
        let ours = format!(".*{}.*", affinity.cookie);
        let asks = |header: &Value| {
            let name = header.str_at("/name").unwrap_or_default();
            let value = header.str_at("/value").unwrap_or_default();
            name.eq_ignore_ascii_case(COOKIE) && value.starts_with(&ours)
        };
        let matches = rule.array_at("/matches");
        !matches.is_empty()
            && matches
                .iter()
                .all(|m| m.array_at("/headers").iter().any(asks))
    }
}
