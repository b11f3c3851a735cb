//! A `VirtualService` as it is stored: which of its rules are the app's, which are ours, and where they send requests.

use serde_json::Value;

use super::rules::{MATCH, STICKY, STICKY_PRIMARY};
use crate::{
    api::{
        names,
        objects::{Object, ObjectExt, Objects},
    },
    build::owned,
    decide::{effect::Traffic, plan::Plan},
};

/// Which copy a destination leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Host {
    /// The apex, which selects the primary.
    Apex,
    /// `S-primary`.
    Primary,
    /// `S-canary`.
    Canary,
}

/// What a rule is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The app's rule, whose destinations we write.
    Base,
    /// Put before it by us, or whatever else leads to nothing but the copies: they are there for our rules alone.
    Ours,
    /// Somebody else's.
    Theirs,
}

/// Why a `VirtualService` of others cannot be split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unsplit {
    /// None of its rules leads to the app and nowhere else.
    None,
    /// So many do.
    Many(usize),
    /// The rule of this name is not there, or leads elsewhere too.
    Named(String),
    /// A rule that is not named leads to a copy.
    Other,
}

/// The rules of a stored `VirtualService`.
pub(super) struct Stored<'a> {
    /// The object.
    pub(super) object: &'a Object,
    /// We made it, and every rule in it is ours to write.
    pub(super) mine: bool,
    /// `http` or `tcp`.
    pub(super) protocol: &'static str,
    /// Its rules.
    pub(super) rules: &'a [Value],
    /// What each is.
    pub(super) roles: Vec<Role>,
    plan: &'a Plan,
}

/// `tcp` where the port says so, by Flagger's rule; else `http`.
pub(super) fn protocol(plan: &Plan) -> &'static str {
    let protocol = plan.service.app_protocol.as_deref().unwrap_or_default();
    if protocol.eq_ignore_ascii_case("tcp") {
        "tcp"
    } else {
        "http"
    }
}

/// Names of the rules to split (`service.virtualService.routes`); empty where the one that leads to the app is meant.
pub(super) fn named(objects: &Objects) -> Vec<&str> {
    let names = objects
        .canary
        .array_at("/spec/service/virtualService/routes");
    names.iter().filter_map(Value::as_str).collect()
}

impl<'a> Stored<'a> {
    /// The stored rules, with the reason why the app's is not among them.
    pub(super) fn of(plan: &'a Plan, objects: &'a Objects) -> Option<(Self, Option<Unsplit>)> {
        let object = objects.virtual_service.as_ref()?;
        let protocol = protocol(plan);
        let rules = object.array_at(&format!("/spec/{protocol}"));
        let mut stored = Self {
            object,
            mine: owned(object, &objects.canary),
            protocol,
            rules,
            roles: Vec::new(),
            plan,
        };
        let (bases, unsplit) = if stored.mine {
            (stored.base_of_ours(objects).into_iter().collect(), None)
        } else {
            stored.bases_of_theirs(&named(objects))
        };
        // Before we have taken one over, nothing in it is ours.
        let touched = stored.mine || !bases.is_empty() || stored.taken();
        let role = |i: usize| {
            if bases.contains(&i) {
                Role::Base
            } else if touched && (stored.mine || stored.is_ours(i)) {
                Role::Ours
            } else {
                Role::Theirs
            }
        };
        stored.roles = (0..rules.len()).map(role).collect();
        Some((stored, unsplit))
    }

    /// Of our own: the last rule to the app for all requests that the service takes. One with another match is no base: it would be taken for a
    /// weight of all.
    fn base_of_ours(&self, objects: &Objects) -> Option<usize> {
        let wanted = super::rules::service_match(objects, self.protocol);
        let all = |rule: &Value| {
            let matches = rule.array_at("/match");
            matches.is_empty() || matches == wanted
        };
        (0..self.rules.len())
            .rev()
            .find(|i| self.leads_to_app(*i) && all(&self.rules[*i]))
    }

    /// The rules of others that are ours to split, or why there are none.
    fn bases_of_theirs(&self, named: &[&str]) -> (Vec<usize>, Option<Unsplit>) {
        let unsplit = |why| (Vec::new(), Some(why));
        let taken = self.taken();
        let app: Vec<usize> = (0..self.rules.len())
            .filter(|i| self.leads_to_app(*i) && !self.is_named_by_us(*i))
            .collect();
        if !named.is_empty() {
            let mut bases = Vec::new();
            for name in named {
                match app.iter().find(|i| self.name(**i) == Some(*name)) {
                    Some(found) => bases.push(*found),
                    None => return unsplit(Unsplit::Named((*name).to_owned())),
                }
            }
            let other = |i: &usize| !bases.contains(i) && self.leads_to_copies(*i);
            return if !taken && app.iter().any(other) {
                unsplit(Unsplit::Other)
            } else {
                (bases, None)
            };
        }
        let split: Vec<usize> = app
            .iter()
            .copied()
            .filter(|i| self.leads_to_copies(*i))
            .collect();
        match (&app[..], &split[..]) {
            (_, [.., last]) if taken => (vec![self.as_it_was(&split).unwrap_or(*last)], None),
            ([], _) => unsplit(Unsplit::None),
            ([one], _) => (vec![*one], None),
            (many, _) => unsplit(Unsplit::Many(many.len())),
        }
    }

    /// Of several split rules, the one for the requests that the app's rule took before it was ours.
    fn as_it_was(&self, split: &[usize]) -> Option<usize> {
        let original: Value =
            serde_json::from_str(self.object.annotation(names::ORIGINAL)?).ok()?;
        let rules = original.array_at(&format!("/{}", self.protocol));
        let mut app = rules.iter().filter(|rule| self.hosts(rule).is_some());
        let (one, other) = (app.next()?, app.next());
        let found = split
            .iter()
            .find(|i| self.rules[**i]["match"] == one["match"]);
        found.copied().filter(|_| other.is_none())
    }

    /// We have saved what it was, and written it since.
    fn taken(&self) -> bool {
        self.object.annotation(names::ORIGINAL).is_some()
    }

    /// It has the app's rule, or is ours to give it one.
    pub(super) fn splits(&self) -> bool {
        self.mine || self.roles.contains(&Role::Base)
    }

    fn name(&self, i: usize) -> Option<&str> {
        self.rules[i].str_at("/name")
    }

    fn is_named_by_us(&self, i: usize) -> bool {
        [STICKY, STICKY_PRIMARY, MATCH]
            .map(Some)
            .contains(&self.name(i))
    }

    fn is_ours(&self, i: usize) -> bool {
        self.leads_to_app(i) && (self.leads_to_copies(i) || self.is_named_by_us(i))
    }

    /// All destinations are the app's.
    fn leads_to_app(&self, i: usize) -> bool {
        self.hosts(&self.rules[i]).is_some()
    }

    /// And one at least is a copy.
    fn leads_to_copies(&self, i: usize) -> bool {
        let hosts = self.hosts(&self.rules[i]);
        hosts.is_some_and(|hosts| hosts.iter().any(|host| *host != Host::Apex))
    }

    /// The destinations of a rule that leads to the app and nowhere else.
    fn hosts(&self, rule: &Value) -> Option<Vec<Host>> {
        let to = rule.array_at("/route");
        let hosts = to.iter().map(|to| host(self.plan, &to["destination"]));
        hosts
            .collect::<Option<Vec<_>>>()
            .filter(|all| !all.is_empty())
    }

    /// Where the rules send requests; `None` without a rule between the two copies.
    pub(super) fn traffic(&self) -> Option<Traffic> {
        if !self.splits() {
            return None;
        }
        let (mut share, mut mirror, mut matched, mut sticky) = (None, 0, false, false);
        for (i, rule) in self.rules.iter().enumerate() {
            let role = self.roles[i];
            if role == Role::Theirs || (role == Role::Base && !self.leads_to_copies(i)) {
                continue;
            }
            mirror = mirror.max(mirrored(self.plan, rule));
            // Of our own a rule may lead anywhere since somebody has edited it.
            let gets = canary_share(self.plan, rule);
            if role == Role::Base {
                share = share.max(gets);
            } else if gets.unwrap_or(0) > 0 {
                if self.name(i) == Some(STICKY) {
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
}

/// The copy that a destination's host is, in short or with its namespace.
pub(super) fn host(plan: &Plan, destination: &Value) -> Option<Host> {
    let (service, namespace) = (&plan.service.name, &plan.namespace);
    let text = destination.str_at("/host")?;
    let is = |name: &str| {
        text.strip_prefix(name).is_some_and(|rest| {
            let full = format!(".{namespace}");
            rest.is_empty()
                || rest == full
                || rest
                    .strip_prefix(&full)
                    .is_some_and(|rest| rest == ".svc" || rest.starts_with(".svc."))
        })
    };
    if is(&format!("{service}-primary")) {
        Some(Host::Primary)
    } else if is(&format!("{service}-canary")) {
        Some(Host::Canary)
    } else {
        is(service).then_some(Host::Apex)
    }
}

/// The canary's percent of a rule; of less than one it is one. Weights are relative, as in Istio; one destination alone gets everything. `None`
/// where no weight says anything, which Istio refuses.
fn canary_share(plan: &Plan, rule: &Value) -> Option<u8> {
    let to = rule.array_at("/route");
    let weight = |to: &Value| match to.int_at("/weight") {
        Some(weight) => weight.max(0),
        None => 0,
    };
    let is_canary = |to: &Value| host(plan, &to["destination"]) == Some(Host::Canary);
    if let [one] = to {
        return Some(if is_canary(one) { 100 } else { 0 });
    }
    let mut sums = (0_i64, 0_i64);
    for one in to {
        sums.0 = sums.0.checked_add(weight(one))?;
        if is_canary(one) {
            sums.1 = sums.1.checked_add(weight(one))?;
        }
    }
    let (all, canary) = sums;
    if all == 0 {
        return None;
    }
    let share = canary.checked_mul(100)?.checked_add(all - 1)? / all;
    Some(u8::try_from(share).unwrap_or(100))
}

/// Percent of a rule's requests that are copied to the canary; without a percentage all are. Istio.
fn mirrored(plan: &Plan, rule: &Value) -> u8 {
    let to_canary = |to: &Value| host(plan, to) == Some(Host::Canary);
    let percent = |value: &Value| percent_up(value.as_f64().unwrap_or(100.0));
    let mut most = 0;
    if to_canary(&rule["mirror"]) {
        let older = &rule["mirrorPercent"];
        let value = rule.pointer("/mirrorPercentage/value").unwrap_or(older);
        most = percent(value);
    }
    for mirror in rule.array_at("/mirrors") {
        if to_canary(&mirror["destination"]) {
            most = most.max(percent(&mirror["percentage"]["value"]));
        }
    }
    most
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to a percentage"
)]
fn percent_up(value: f64) -> u8 {
    value.clamp(0.0, 100.0).ceil() as u8
}
