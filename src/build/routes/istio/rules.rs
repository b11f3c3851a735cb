//! The rules of a `VirtualService` at one traffic: one function from which both the repair and the shift follow.

use serde_json::{Map, Value, json};

use super::stored::{Host, Stored, host};
use crate::{
    api::objects::{ObjectExt, Objects},
    build::{
        routes::affinity::{self, COOKIE, Pin, SET_COOKIE},
        services,
    },
    decide::{
        effect::Traffic,
        plan::{Plan, Strategy},
        state::Cookies,
    },
};

/// Name of the rule that follows the canary's cookie. Flagger.
pub(super) const STICKY: &str = "sticky-route";
/// Name of the rule that follows the primary's cookie.
pub(super) const STICKY_PRIMARY: &str = "sticky-route-primary";
/// Name of the A/B rule in a `VirtualService` of others; in ours it has none, as in Flagger.
pub(super) const MATCH: &str = "canary-match";

/// Fields of `spec.service` that stand on the http rule as they are.
const COPIED: [&str; 5] = ["match", "timeout", "retries", "corsPolicy", "headers"];
/// The conditions of A/B testing. Flagger.
pub(super) const TELLS: [&str; 3] = ["headers", "sourceLabels", "queryParams"];

/// What a rule of the app has beside its destinations.
pub(super) struct Frame {
    rule: Map<String, Value>,
    /// Headers of each of its destinations, which others have written.
    headers: Option<Value>,
    port: Option<Value>,
    /// The `VirtualService` is ours.
    mine: bool,
}

/// What the rules are made for.
pub(super) struct Want<'a> {
    pub(super) plan: &'a Plan,
    pub(super) objects: &'a Objects,
    pub(super) cookies: &'a Cookies,
    pub(super) traffic: Traffic,
}

/// Conditions of the requests that the service takes, as the rule of a protocol has them. Flagger: of TCP only the ports.
pub(super) fn service_match(objects: &Objects, protocol: &str) -> Vec<Value> {
    let all = objects.canary.array_at("/spec/service/match");
    if protocol == "http" {
        return all.to_vec();
    }
    let port = |entry: &Value| entry.get("port").map(|port| json!({"port": port}));
    all.iter().filter_map(port).collect()
}

impl Frame {
    /// The app's rule in a `VirtualService` of ours.
    pub(super) fn of_ours(plan: &Plan, objects: &Objects, protocol: &str) -> Self {
        let service = &objects.canary["spec"]["service"];
        let mut rule = Map::new();
        let matches = service_match(objects, protocol);
        if !matches.is_empty() {
            rule.insert("match".to_owned(), Value::Array(matches));
        }
        if protocol == "http" {
            for key in COPIED.into_iter().filter(|key| *key != "match") {
                let value = &service[key];
                if !value.is_null() {
                    rule.insert(key.to_owned(), value.clone());
                }
            }
            // `type` belongs to the Gateway API.
            let rewrite: Map<String, Value> = ["uri", "authority"]
                .into_iter()
                .filter_map(|key| Some((key.to_owned(), service["rewrite"].get(key)?.clone())))
                .collect();
            if !rewrite.is_empty() {
                rule.insert("rewrite".to_owned(), Value::Object(rewrite));
            }
        }
        Self {
            rule,
            headers: None,
            port: port(plan, objects),
            mine: true,
        }
    }

    /// A rule that others have written: all of it but for what we put there.
    pub(super) fn of_theirs(plan: &Plan, objects: &Objects, stored: &Value) -> Self {
        let mut rule = stored.as_object().cloned().unwrap_or_default();
        rule.remove("route");
        let mut copies = take_mirrors(&mut rule);
        copies.retain(|to| host(plan, &to["destination"]) != Some(Host::Canary));
        put_mirrors(&mut rule, copies);
        let all = stored.array_at("/route");
        let is_canary = |to: &&Value| host(plan, &to["destination"]) == Some(Host::Canary);
        let to = all.iter().find(|to| !is_canary(to)).or(all.first());
        let theirs = to.map(|to| &to["destination"]["port"]);
        // A gateway needs it where a Service has several, and it may be another one than the Canary's.
        let ports = services::ports(plan, objects);
        let has = |port: &&Value| ports.iter().any(|ours| ours["port"] == port["number"]);
        let headers = to.and_then(|to| to.get("headers"));
        Self {
            rule,
            headers: headers.and_then(|headers| without_cookie(plan, headers)),
            port: theirs.filter(has).cloned(),
            mine: false,
        }
    }

    fn destination(&self, plan: &Plan, role: &str, weight: u8, set: Option<&str>) -> Value {
        let mut to = json!({"destination": self.host(plan, role), "weight": weight});
        let mut headers = self.headers.clone().unwrap_or(Value::Null);
        if let Some(set) = set {
            headers["response"]["add"][SET_COOKIE] = json!(set);
        }
        if !headers.is_null() {
            to["headers"] = headers;
        }
        to
    }

    fn host(&self, plan: &Plan, role: &str) -> Value {
        let mut host = json!({"host": format!("{}-{role}", plan.service.name)});
        if let Some(port) = &self.port {
            host["port"] = port.clone();
        }
        host
    }

    /// The rule under another name, for some of its requests, with these destinations.
    fn rule(&self, name: Option<&str>, matches: Option<Vec<Value>>, route: Vec<Value>) -> Value {
        let mut rule = self.rule.clone();
        if let Some(name) = name {
            rule.insert("name".to_owned(), json!(name));
        }
        if let Some(matches) = matches {
            rule.insert("match".to_owned(), Value::Array(matches));
        }
        rule.insert("route".to_owned(), Value::Array(route));
        Value::Object(rule)
    }

    /// The rule's own requests, as far as one of `conditions` holds of them too: each crossed with each. A condition goes before one of the same
    /// name; Flagger drops the others of its kind, and would send requests to the app that its service does not take.
    fn crossed(&self, conditions: &[Value]) -> Vec<Value> {
        let own = self.rule.get("match").and_then(Value::as_array);
        let Some(own) = own.filter(|own| !own.is_empty()) else {
            return conditions.to_vec();
        };
        let cross = |condition: &Value, own: &Value| {
            let mut both = own.clone();
            for key in TELLS {
                for (name, value) in condition[key].as_object().into_iter().flatten() {
                    both[key][name.as_str()] = value.clone();
                }
            }
            both
        };
        conditions
            .iter()
            .flat_map(|condition| own.iter().map(move |own| cross(condition, own)))
            .collect()
    }
}

/// The port of our destinations: a gateway needs it of a Service that has several. Flagger.
fn port(plan: &Plan, objects: &Objects) -> Option<Value> {
    let service = &plan.service;
    let gateway = service
        .gateways
        .first()
        .is_some_and(|first| first != "mesh");
    let several = service.port_discovery || services::ports(plan, objects).len() > 1;
    (several && (gateway || service.delegation)).then(|| json!({"number": service.port}))
}

/// Headers without the cookie that we hand out; `None` when nothing else is said.
fn without_cookie(plan: &Plan, headers: &Value) -> Option<Value> {
    let mut headers = headers.clone();
    let ours = |text: &str| affinity::is_ours(plan, text);
    if headers["response"]["add"][SET_COOKIE]
        .as_str()
        .is_some_and(ours)
    {
        let response = headers.get_mut("response")?.as_object_mut()?;
        let add = response.get_mut("add")?.as_object_mut()?;
        add.remove(SET_COOKIE);
        if add.is_empty() {
            response.remove("add");
        }
        if response.is_empty() {
            headers.as_object_mut()?.remove("response");
        }
    }
    let said = headers.as_object().is_some_and(|all| !all.is_empty());
    said.then_some(headers)
}

impl Want<'_> {
    /// The rules of the app in place of its one, in order: cookies, match, weights.
    pub(super) fn rules(&self, frame: &Frame, protocol: &str) -> Vec<Value> {
        let (plan, traffic) = (self.plan, self.traffic);
        if protocol == "tcp" {
            return vec![frame.rule(None, None, self.split(frame, traffic.canary(), None, None))];
        }
        let pins = affinity::pins(plan, self.cookies, traffic);
        let to_canary = pins.canary.as_ref().map(|pin| pin.set.as_str());
        let to_primary = pins.primary.as_ref().map(|pin| pin.set.as_str());
        let mut all = Vec::new();
        let kept = |name, pin: &Pin, canary| {
            let route = self.split(frame, canary, None, None);
            frame.rule(Some(name), Some(frame.crossed(&[cookie(pin)])), route)
        };
        all.extend(pins.canary.iter().map(|pin| kept(STICKY, pin, 100)));
        all.extend(pins.primary.iter().map(|pin| kept(STICKY_PRIMARY, pin, 0)));
        all.extend(pins.old.iter().map(|pin| {
            let mut rule = kept(STICKY, pin, 0);
            rule["headers"]["response"]["add"][SET_COOKIE] = json!(pin.set);
            rule
        }));
        let matched = traffic.matches();
        // In ours it stays when nobody is sent by it, as in Flagger.
        if let Some(conditions) = self.conditions()
            && (matched || frame.mine)
        {
            let canary = if matched { 100 } else { 0 };
            let route = self.split(frame, canary, to_canary.filter(|_| matched), None);
            let name = (!frame.mine).then_some(MATCH);
            all.push(frame.rule(name, Some(frame.crossed(conditions)), route));
        }
        all.push(self.weighted(frame, to_canary, to_primary));
        all
    }

    /// The conditions of A/B testing.
    fn conditions(&self) -> Option<&[Value]> {
        let all = self.objects.canary.array_at("/spec/analysis/match");
        let tests = self.plan.strategy == Strategy::AbTesting && !all.is_empty();
        tests.then_some(all)
    }

    fn split(
        &self,
        frame: &Frame,
        canary: u8,
        to_canary: Option<&str>,
        to_primary: Option<&str>,
    ) -> Vec<Value> {
        vec![
            frame.destination(self.plan, "primary", 100 - canary.min(100), to_primary),
            frame.destination(self.plan, "canary", canary, to_canary),
        ]
    }

    /// The rule of all other requests. Under a match it leads to the primary alone, unless a weight says otherwise.
    fn weighted(&self, frame: &Frame, to_canary: Option<&str>, to_primary: Option<&str>) -> Value {
        let traffic = self.traffic;
        let mut route = self.split(frame, traffic.canary(), to_canary, to_primary);
        if self.conditions().is_some() && traffic.canary() == 0 {
            route.truncate(1);
        }
        let mut rule = frame.rule.clone();
        if traffic.mirror() > 0 {
            let mut copies = take_mirrors(&mut rule);
            let mut ours = json!({"destination": frame.host(self.plan, "canary")});
            // Flagger says no percentage where everything is copied.
            if traffic.mirror() < 100 {
                ours["percentage"] = json!({"value": traffic.mirror()});
            }
            copies.push(ours);
            put_mirrors(&mut rule, copies);
        }
        rule.insert("route".to_owned(), Value::Array(route));
        Value::Object(rule)
    }
}

/// Where a rule copies its requests to, taken out of it, as entries of `mirrors`. Istio: `mirror` or `mirrors`, never both.
fn take_mirrors(rule: &mut Map<String, Value>) -> Vec<Value> {
    let mut take = |key: &str| rule.remove(key).filter(|value| !value.is_null());
    let (one, percentage, older) = (
        take("mirror"),
        take("mirrorPercentage"),
        take("mirrorPercent"),
    );
    let mut all = match take("mirrors") {
        Some(Value::Array(all)) => all,
        _ => Vec::new(),
    };
    if let Some(one) = one {
        let mut one = json!({"destination": one});
        if let Some(percentage) = percentage.or(older.map(|percent| json!({"value": percent}))) {
            one["percentage"] = percentage;
        }
        all.push(one);
    }
    all
}

/// The other way; a single one as `mirror`, as Flagger has it.
fn put_mirrors(rule: &mut Map<String, Value>, mut all: Vec<Value>) {
    match &mut all[..] {
        [] => {}
        [one] => {
            rule.insert("mirror".to_owned(), one["destination"].take());
            let percentage = one["percentage"].take();
            if !percentage.is_null() {
                rule.insert("mirrorPercentage".to_owned(), percentage);
            }
        }
        _ => {
            rule.insert("mirrors".to_owned(), Value::Array(all));
        }
    }
}

fn cookie(pin: &Pin) -> Value {
    json!({"headers": {COOKIE: {"regex": pin.regex}}})
}

/// The whole list of rules that is wanted in place of the stored one.
pub(super) fn wanted(want: &Want<'_>, stored: &Stored<'_>) -> Vec<Value> {
    use super::stored::Role;
    if stored.mine {
        let frame = Frame::of_ours(want.plan, want.objects, stored.protocol);
        return want.rules(&frame, stored.protocol);
    }
    let mut all = Vec::new();
    for (rule, role) in stored.rules.iter().zip(&stored.roles) {
        match role {
            Role::Base => {
                let frame = Frame::of_theirs(want.plan, want.objects, rule);
                all.extend(want.rules(&frame, stored.protocol));
            }
            Role::Ours => {}
            Role::Theirs => all.push(rule.clone()),
        }
    }
    all
}
