//! The rules of the `HTTPRoute` at one traffic: one function from which both the repair and the shift follow.

use serde_json::{Map, Value, json};

use super::maps;
use crate::{
    api::objects::{ObjectExt, Objects},
    build::routes::affinity::{self, COOKIE, Pin, SET_COOKIE},
    decide::{
        effect::Traffic,
        plan::{Plan, Strategy},
        state::Cookies,
    },
};

/// What the rules are made for.
pub(super) struct Want<'a> {
    pub(super) plan: &'a Plan,
    pub(super) objects: &'a Objects,
    pub(super) cookies: &'a Cookies,
    pub(super) traffic: Traffic,
}

/// The requests that the service takes; all where it says nothing. Flagger.
pub(super) fn service_matches(objects: &Objects) -> Vec<Value> {
    let given = objects.canary.array_at("/spec/service/match").iter();
    let all: Vec<Value> = given.map(maps::matched).collect();
    if all.is_empty() {
        vec![maps::matched(&Value::Null)]
    } else {
        all
    }
}

impl Want<'_> {
    /// The conditions of A/B testing.
    fn conditions(&self) -> Option<Vec<Value>> {
        let all = self.objects.canary.array_at("/spec/analysis/match");
        let tests = self.plan.strategy == Strategy::AbTesting && !all.is_empty();
        tests.then(|| all.iter().map(maps::matched).collect())
    }

    /// The rules in order: cookies, match, weights. A Gateway takes the most special match whatever the order, and each of ours is the service's
    /// with one condition more.
    pub(super) fn rules(&self) -> Vec<Value> {
        let (traffic, service) = (self.traffic, service_matches(self.objects));
        let pins = affinity::pins(self.plan, self.cookies, traffic);
        let to_canary = pins.canary.as_ref().map(|pin| pin.set.as_str());
        let to_primary = pins.primary.as_ref().map(|pin| pin.set.as_str());
        let mut all = Vec::new();
        let kept = |pin: &Pin, canary, filters| {
            let matches = maps::crossed(&[cookie(pin)], &service);
            self.rule(&matches, filters, self.split(canary, None, None))
        };
        all.extend(pins.canary.iter().map(|pin| kept(pin, 100, self.filters())));
        all.extend(pins.primary.iter().map(|pin| kept(pin, 0, self.filters())));
        all.extend(pins.old.iter().map(|pin| {
            let mut filters = self.filters();
            add_cookie(&mut filters, &pin.set);
            kept(pin, 0, filters)
        }));
        let conditions = self.conditions();
        // It stays when nobody is sent by it, as in Flagger.
        if let Some(conditions) = &conditions {
            let sent = traffic.matches();
            let canary = if sent { 100 } else { 0 };
            let backends = self.split(canary, to_canary.filter(|_| sent), None);
            let matches = maps::crossed(conditions, &service);
            all.push(self.rule(&matches, self.filters(), backends));
        }
        let mut backends = self.split(traffic.canary(), to_canary, to_primary);
        if conditions.is_some() && traffic.canary() == 0 {
            backends.truncate(1);
        }
        let mut filters = self.filters();
        if traffic.mirror() > 0 {
            filters.push(self.mirror(traffic.mirror()));
        }
        all.push(self.rule(&service, filters, backends));
        all
    }

    /// The rule of all requests with nobody to choose between.
    pub(super) fn to_apex(&self) -> Value {
        let service = &self.plan.service;
        let apex = json!({"group": "", "kind": "Service", "name": service.name, "port": service.port, "weight": 100});
        self.rule(&service_matches(self.objects), self.filters(), vec![apex])
    }

    fn filters(&self) -> Vec<Value> {
        maps::filters(&self.objects.canary["spec"]["service"])
    }

    fn rule(&self, matches: &[Value], filters: Vec<Value>, backends: Vec<Value>) -> Value {
        let mut rule = Map::new();
        rule.insert("matches".to_owned(), json!(matches));
        if !filters.is_empty() {
            rule.insert("filters".to_owned(), Value::Array(filters));
        }
        rule.insert("backendRefs".to_owned(), Value::Array(backends));
        let timeouts = maps::timeouts(&self.objects.canary["spec"]["service"]);
        if let Some(timeouts) = timeouts {
            rule.insert("timeouts".to_owned(), timeouts);
        }
        Value::Object(rule)
    }

    fn split(&self, canary: u8, to_canary: Option<&str>, to_primary: Option<&str>) -> Vec<Value> {
        let one = |role: &str, weight: u8, set: Option<&str>| {
            let mut backend = self.backend(role);
            backend["weight"] = json!(weight);
            if let Some(set) = set {
                let mut filters = Vec::new();
                add_cookie(&mut filters, set);
                backend["filters"] = Value::Array(filters);
            }
            backend
        };
        vec![
            one("primary", 100 - canary.min(100), to_primary),
            one("canary", canary, to_canary),
        ]
    }

    fn backend(&self, role: &str) -> Value {
        let service = &self.plan.service;
        json!({"group": "", "kind": "Service", "name": format!("{}-{role}", service.name), "port": service.port})
    }

    /// Flagger says no percentage where everything is copied; the API knows one since v1.3.
    fn mirror(&self, percent: u8) -> Value {
        let mut filter = json!({"backendRef": self.backend("canary")});
        if percent < 100 {
            filter["percent"] = json!(percent);
        }
        json!({"type": "RequestMirror", "requestMirror": filter})
    }
}

/// Lets answers carry a cookie; a rule has one filter for their headers at most.
fn add_cookie(filters: &mut Vec<Value>, set: &str) {
    const KIND: &str = "ResponseHeaderModifier";
    let entry = json!({"name": SET_COOKIE, "value": set});
    let there = filters.iter_mut().find(|filter| filter["type"] == KIND);
    let add = there.map(|filter| &mut filter["responseHeaderModifier"]["add"]);
    match add {
        Some(Value::Array(add)) => {
            add.retain(|other| other["name"] != SET_COOKIE);
            add.push(entry);
        }
        Some(add) => *add = json!([entry]),
        None => filters.push(json!({"type": KIND, "responseHeaderModifier": {"add": [entry]}})),
    }
}

fn cookie(pin: &Pin) -> Value {
    json!({"headers": [{"name": COOKIE, "type": "RegularExpression", "value": pin.regex}]})
}
