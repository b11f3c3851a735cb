//! Where a request goes: the routes of the cluster's mesh or gateways as they are stored, rule by rule, and whose turn it is by the weights.
//! Pure.

mod gateway_api;
mod istio;
mod known;
mod pattern;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::requests::{Entry, Request, Source, turn};
use crate::api::objects::{Object, ObjectExt};
pub(super) use gateway_api::hostnames_meet;
pub(super) use known::Known;
use pattern::Test;

/// The routing objects of a cluster.
pub(super) trait Lookup {
    /// All `VirtualServices`.
    fn virtual_services(&self) -> Vec<Object>;
    /// The `DestinationRules` of a namespace.
    fn destination_rules(&self, namespace: &str) -> Vec<Object>;
    /// All `HTTPRoutes`, as their controllers know them.
    fn http_routes(&self) -> Vec<Object>;
    /// A Service.
    fn service(&self, namespace: &str, name: &str) -> Option<Object>;
}

/// A Service, or the subset of its pods that has these labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Destination {
    pub(super) namespace: Arc<str>,
    pub(super) service: Arc<str>,
    /// `None`: the route names a subset that no `DestinationRule` defines, which takes no pod.
    pub(super) labels: Option<BTreeMap<String, String>>,
}

impl Destination {
    fn whole(namespace: &str, service: &str) -> Self {
        Self {
            namespace: Arc::from(namespace),
            service: Arc::from(service),
            labels: Some(BTreeMap::new()),
        }
    }

    /// The pod, one of the Service's, belongs to the subset.
    pub(super) fn takes(&self, pod: &Value) -> bool {
        self.labels.as_ref().is_some_and(|labels| {
            labels
                .iter()
                .all(|(key, value)| pod.label(key) == Some(value))
        })
    }
}

/// The rules for the requests of one source, and whose turn it is in each.
#[derive(Debug, Clone)]
pub(super) struct Route {
    /// What a request has to be for which rule, the first that takes it first.
    matches: Vec<Match>,
    rules: Vec<Rule>,
    /// It is connections that are routed, not requests.
    tcp: bool,
}

/// All tests hold: the rule with this index is followed.
#[derive(Debug, Clone, PartialEq)]
struct Match {
    tests: Vec<Test>,
    rule: usize,
}

/// A weighted split, with copies.
#[derive(Debug, Clone, Default)]
struct Rule {
    backends: Vec<Backend>,
    mirrors: Vec<Mirror>,
    /// Credit of each backend.
    credits: Vec<i64>,
    /// Credit of each mirror, millionths of a request.
    mirror_credits: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq)]
struct Backend {
    destination: Arc<Destination>,
    weight: i64,
    /// `Set-Cookie` headers that the route adds to its answers.
    cookies: Arc<[String]>,
}

#[derive(Debug, Clone, PartialEq)]
struct Mirror {
    destination: Arc<Destination>,
    /// Only requests to the backend with this index are copied.
    of: Option<usize>,
    /// Millionths of the requests that are copied.
    millionths: u32,
}

const MILLION: u32 = 1_000_000;

/// What becomes of one request.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) destination: Arc<Destination>,
    /// `Set-Cookie` headers of the answer.
    pub(super) cookies: Arc<[String]>,
    /// Where copies go.
    pub(super) mirrors: Vec<Arc<Destination>>,
}

impl Route {
    /// The route of the source's requests, as stored. Without one it is the Service itself for requests from within; a gateway then knows
    /// nothing of the host.
    pub(super) fn read(objects: &impl Lookup, source: &Source) -> Self {
        istio::read(objects, source)
            .or_else(|| gateway_api::read(objects, source))
            .unwrap_or_else(|| match source.entry {
                Entry::Published | Entry::Inside => Self::direct(source),
                Entry::Gateway { .. } => Self::new(Vec::new(), Vec::new()),
            })
    }

    /// To the Service itself.
    fn direct(source: &Source) -> Self {
        let whole = Destination::whole(&source.namespace, &source.service);
        let backend = Backend {
            destination: Arc::new(whole),
            weight: 1,
            cookies: Arc::default(),
        };
        let always = Match {
            tests: Vec::new(),
            rule: 0,
        };
        Self::new(vec![always], vec![Rule::new(vec![backend], Vec::new())])
    }

    fn new(matches: Vec<Match>, rules: Vec<Rule>) -> Self {
        Self {
            matches,
            rules,
            tcp: false,
        }
    }

    pub(super) fn is_tcp(&self) -> bool {
        self.tcp
    }

    /// Where the next request goes, by the first rule that takes it; `None` when none does. Weights split any run of requests that a rule
    /// takes as they say, to within one request for each destination.
    pub(super) fn next(&mut self, request: &Request<'_>) -> Option<Sent> {
        let taking = self
            .matches
            .iter()
            .find(|m| m.tests.iter().all(|test| test.holds(request)))?;
        self.rules.get_mut(taking.rule)?.next()
    }

    /// Both treat every request alike.
    pub(super) fn same(&self, other: &Self) -> bool {
        let parts = |rule: &Rule| (rule.backends.clone(), rule.mirrors.clone());
        let rules = |route: &Self| route.rules.iter().map(parts).collect::<Vec<_>>();
        self.tcp == other.tcp && self.matches == other.matches && rules(self) == rules(other)
    }
}

impl Rule {
    fn new(backends: Vec<Backend>, mirrors: Vec<Mirror>) -> Self {
        Self {
            credits: vec![0; backends.len()],
            mirror_credits: vec![0; mirrors.len()],
            backends,
            mirrors,
        }
    }

    fn next(&mut self) -> Option<Sent> {
        let weights = self.backends.iter().map(|b| b.weight);
        let chosen = turn(weights.zip(&mut self.credits))?;
        let mut mirrors = Vec::new();
        let mirrors_of = self.mirrors.iter().zip(&mut self.mirror_credits);
        for (mirror, credit) in mirrors_of.filter(|(m, _)| m.of.is_none_or(|of| of == chosen)) {
            *credit += mirror.millionths;
            if *credit >= MILLION {
                *credit -= MILLION;
                mirrors.push(Arc::clone(&mirror.destination));
            }
        }
        let backend = self.backends.get(chosen)?;
        Some(Sent {
            destination: Arc::clone(&backend.destination),
            cookies: Arc::clone(&backend.cookies),
            mirrors,
        })
    }
}

/// A percentage as millionths of all requests, never more than all.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped right before"
)]
fn millionths(percent: f64) -> u32 {
    (percent * 10_000.0).clamp(0.0, f64::from(MILLION)).round() as u32
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
