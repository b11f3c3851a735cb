//! The invariants, judged from the changes that the API server has committed: nothing here asks an engine.

use std::collections::{BTreeMap, BTreeSet};

use canary_mcp::{
    api::{
        objects::{CANARY, DEPLOYMENT, ObjectExt, POD, SCALED_OBJECT, VIRTUAL_SERVICE},
        revision::revision,
    },
    cluster::embedded::store::{Change, ChangeKind},
    decide::facts::Moment,
};
use serde_json::Value;

use super::tag;

const OURS: &str = "canary-mcp";
const PAUSED: &str = "autoscaling.keda.sh/paused-replicas";
/// `spec.analysis.settle` when none is given, milliseconds.
const SETTLE: i64 = 10_000;
/// How old a leader's view of the pods may be under faults: a watch that is cut off lists again within its longest back-off.
const BLIND: i64 = 120_000;

/// The endpoints of one copy.
#[derive(Default)]
struct Copy {
    ready: BTreeSet<String>,
    /// When the last one went.
    lost: Option<Moment>,
}

/// What the log has told so far.
#[derive(Default)]
pub(super) struct Judge {
    /// The canary's share by the stored route, and since when.
    route: Option<(i64, Moment)>,
    primary: Copy,
    canary: Copy,
    target_replicas: i64,
    paused: bool,
    primary_tag: String,
    status: Value,
    /// The largest step of any spec that was in force.
    step: i64,
    max_weight: i64,
    /// Image tags by revision of the template.
    tags: BTreeMap<String, String>,
    /// The greatest share that each run's canary has had.
    shares: BTreeMap<String, i64>,
    /// Runs whose skip a person has asked for.
    skips: BTreeSet<String>,
    promoted: BTreeSet<String>,
    /// The changes that broke a rule, in words.
    pub(super) broken: Vec<String>,
}

impl Judge {
    /// A person asks that this run be promoted without analysis.
    pub(super) fn skip_asked(&mut self, run: &str) {
        self.skips.insert(run.to_owned());
    }

    pub(super) fn hear(&mut self, change: &Change) {
        let (object, name) = (&change.object, change.object.name());
        let gone = change.kind == ChangeKind::Deleted;
        if change.resource.is(&POD) {
            self.pod(change, gone);
        } else if change.resource.is(&CANARY) {
            self.canary_is(object);
        } else if change.resource.is(&VIRTUAL_SERVICE) && name == "mcp-server" {
            self.routed(change);
        } else if change.resource.is(&SCALED_OBJECT) && name == "mcp-server" {
            let paused = object.annotation(PAUSED) == Some("0");
            if paused && !self.paused && &*change.manager == OURS {
                self.shrunk(change);
            }
            self.paused = paused;
        } else if change.resource.is(&DEPLOYMENT) && name == "mcp-server" {
            let tag = tag(object);
            self.tags.insert(revision(&object["spec"]["template"]), tag);
            let replicas = object.int_at("/spec/replicas").unwrap_or(1);
            if replicas == 0 && self.target_replicas > 0 && &*change.manager == OURS {
                self.shrunk(change);
            }
            self.target_replicas = replicas;
        } else if change.resource.is(&DEPLOYMENT) && name == "mcp-server-primary" {
            self.primary_is(change, &tag(object));
        }
        if self.route.is_some_and(|(share, _)| share > 0) && self.target_replicas == 0 {
            self.breaks(change, "5: the canary has traffic and no replica is wanted");
        }
    }

    fn breaks(&mut self, change: &Change, why: &str) {
        self.broken.push(format!(
            "{why}: {} {} by {:?} at {} s",
            change.resource.plural,
            change.object.name(),
            change.manager,
            change.at.since(crate::support::EPOCH) / 1000,
        ));
    }

    fn pod(&mut self, change: &Change, gone: bool) {
        let pod = &change.object;
        let name = pod.name().to_owned();
        let copy = if name.starts_with("mcp-server-primary-") {
            &mut self.primary
        } else {
            &mut self.canary
        };
        let conditions = pod.array_at("/status/conditions");
        let ready = !gone
            && pod.str_at("/metadata/deletionTimestamp").is_none()
            && conditions
                .iter()
                .any(|c| c["type"] == "Ready" && c["status"] == "True");
        if ready {
            copy.ready.insert(name);
        } else if copy.ready.remove(&name) && copy.ready.is_empty() {
            copy.lost = Some(change.at);
        }
    }

    fn canary_is(&mut self, canary: &Value) {
        let int = |at: &str| canary.int_at(at).unwrap_or(0);
        self.step = self.step.max(int("/spec/analysis/stepWeight"));
        self.max_weight = int("/spec/analysis/maxWeight");
        self.status = canary["status"].clone();
        if self.status.str_at("/phase") == Some("Succeeded") {
            self.promoted.insert(self.primary_tag.clone());
        }
    }

    /// Rules 1, 2 and 6.
    fn routed(&mut self, change: &Change) {
        let all = change.object.array_at("/spec/http/0/route");
        let weights: Vec<i64> = all
            .iter()
            .map(|r| r.int_at("/weight").unwrap_or(0))
            .collect();
        if weights.len() > 1 && weights.iter().sum::<i64>() != 100 {
            self.breaks(change, &format!("1: the weights are {weights:?}"));
        }
        let now = super::canary_weight(&change.object);
        let before = self.route.map_or(0, |(share, _)| share);
        if now != before || self.route.is_none() {
            self.route = Some((now, change.at));
        }
        let (primary, canary) = (
            !self.primary.ready.is_empty(),
            !self.canary.ready.is_empty(),
        );
        let recently = |copy: &Copy| copy.lost.is_some_and(|at| change.at.since(at) < BLIND);
        if now > before {
            let recorded = self.status.int_at("/canaryWeight").unwrap_or(0);
            if now > recorded + self.step && primary && !recently(&self.primary) {
                self.breaks(change, &format!("1: {now} after {recorded} was recorded"));
            }
            if primary && !canary && !recently(&self.canary) {
                self.breaks(change, &format!("2: {now} for a canary without endpoints"));
            }
        }
        if now < before && canary && !primary && !recently(&self.primary) {
            self.breaks(change, "2: more for a primary without endpoints");
        }
        if let Some(run) = self.status.str_at("/run/id") {
            let share = self.shares.entry(run.to_owned()).or_default();
            *share = (*share).max(now);
        }
    }

    /// Rule 3.
    fn shrunk(&mut self, change: &Change) {
        let settled = self
            .route
            .is_some_and(|(share, since)| share == 0 && change.at.since(since) >= SETTLE);
        if !settled {
            let route = self.route;
            self.breaks(change, &format!("3: the route is {route:?}"));
        }
    }

    /// Rule 4, by what the version's traffic was.
    fn primary_is(&mut self, change: &Change, tag: &str) {
        if self.primary_tag == tag {
            return;
        }
        let first = self.primary_tag.is_empty();
        tag.clone_into(&mut self.primary_tag);
        if first || self.promoted.contains(tag) {
            self.promoted.insert(tag.to_owned());
            return;
        }
        let run = self.status.str_at("/run/id").unwrap_or_default();
        let revision = self.status.str_at("/run/revision").unwrap_or_default();
        let bad = ["-errors", "-slow", "-crash"];
        let bad = bad.iter().any(|ending| tag.ends_with(ending));
        let share = self.shares.get(run).copied().unwrap_or(0);
        let of_run = self.tags.get(revision).is_some_and(|t| t == tag);
        let analysed = !bad && share >= self.max_weight;
        if !of_run || !(analysed || self.skips.contains(run)) {
            self.breaks(
                change,
                &format!(
                    "4: {tag} on the primary, with a share of {share} before, of the run: {of_run}"
                ),
            );
        }
    }

    /// Rules 5 and 6, at rest after the end of a run.
    pub(super) fn at_rest(&mut self) {
        let route = self.route.map_or(0, |(share, _)| share);
        if route == 0 && !(self.paused && self.target_replicas == 0) {
            self.broken.push(format!(
                "5: at rest, paused {}, {} replicas",
                self.paused, self.target_replicas
            ));
        }
        let serves = if route == 0 {
            &self.primary
        } else {
            &self.canary
        };
        if serves.ready.is_empty() {
            self.broken.push(format!(
                "6: at rest, {route}% on the canary, nothing serves"
            ));
        }
    }
}
