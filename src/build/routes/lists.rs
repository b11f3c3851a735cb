//! A list of rules brought from what is stored to what is wanted by few and small operations.

use serde_json::{Value, json};

use crate::api::objects::ObjectExt;

/// Where a router keeps a rule's destinations.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// The list of destinations in a rule.
    pub(super) destinations: &'static str,
    /// What a destination of several weighs that says nothing.
    pub(super) weightless: i64,
    /// One destination alone gets everything, whatever its weight.
    pub(super) alone_takes_all: bool,
}

/// JSON Patch operations that make the list at `path` (`stored`, or none there) the wanted one: weights alone where only they differ, or destinations, else
/// whole rules, and only those between what is the same at both ends. Indices are safe, for a patch fails on an object that has changed since.
pub(super) fn ops(path: &str, stored: &Value, wanted: &[Value], shape: Shape) -> Vec<Value> {
    let Some(stored) = stored.as_array() else {
        return match wanted {
            [] => Vec::new(),
            _ => vec![json!({"op": "add", "path": path, "value": wanted})],
        };
    };
    let same = |(a, b): (&Value, &Value)| shape.plain(a) == shape.plain(b);
    let head = stored.iter().zip(wanted).take_while(|pair| same(*pair));
    let head = head.count();
    let (old, new) = (&stored[head..], &wanted[head..]);
    let tail = old.iter().rev().zip(new.iter().rev());
    let tail = tail.take_while(|pair| same(*pair)).count();
    let (old, new) = (&old[..old.len() - tail], &new[..new.len() - tail]);
    let mut ops = Vec::new();
    for (i, (old, new)) in old.iter().zip(new).enumerate() {
        let at = format!("{path}/{}", head + i);
        ops.extend(shape.rule(&at, old, new));
    }
    for (i, new) in new.iter().enumerate().skip(old.len()) {
        ops.push(json!({"op": "add", "path": format!("{path}/{}", head + i), "value": new}));
    }
    for _ in new.len()..old.len() {
        ops.push(json!({"op": "remove", "path": format!("{path}/{}", head + new.len())}));
    }
    ops
}

impl Shape {
    /// One rule made the wanted one.
    fn rule(self, at: &str, old: &Value, new: &Value) -> Vec<Value> {
        let (a, b) = (self.plain(old), self.plain(new));
        if a == b {
            return Vec::new();
        }
        let list = self.destinations;
        let (bare_a, bare_b) = (self.bare(&a), self.bare(&b));
        if bare_a != bare_b {
            let without = |mut rule: Value| {
                if let Some(rule) = rule.as_object_mut() {
                    rule.remove(list);
                }
                rule
            };
            return if without(bare_a) == without(bare_b) {
                let op = if old[list].is_null() {
                    "add"
                } else {
                    "replace"
                };
                vec![json!({"op": op, "path": format!("{at}/{list}"), "value": new[list]})]
            } else {
                vec![json!({"op": "replace", "path": at, "value": new})]
            };
        }
        let pointer = format!("/{list}");
        let pairs = a.array_at(&pointer).iter().zip(new.array_at(&pointer));
        let differ = pairs
            .enumerate()
            .filter(|(_, (a, b))| a["weight"] != b["weight"]);
        differ
            .map(|(i, (_, b))| json!({"op": "add", "path": format!("{at}/{list}/{i}/weight"), "value": b["weight"]}))
            .collect()
    }

    /// A rule with every weight said, and none where there is one destination, which gets everything.
    fn plain(self, rule: &Value) -> Value {
        let mut rule = rule.clone();
        let all = rule
            .get_mut(self.destinations)
            .and_then(Value::as_array_mut);
        let all = all.map(|all| (all.len() == 1 && self.alone_takes_all, all));
        for (alone, to) in all
            .into_iter()
            .flat_map(|(alone, all)| all.iter_mut().map(move |to| (alone, to)))
        {
            let Some(to) = to.as_object_mut() else {
                continue;
            };
            if alone {
                to.remove("weight");
            } else if to.get("weight").is_none_or(Value::is_null) {
                to.insert("weight".to_owned(), json!(self.weightless));
            }
        }
        rule
    }

    /// A rule without its weights.
    fn bare(self, rule: &Value) -> Value {
        let mut rule = rule.clone();
        let all = rule
            .get_mut(self.destinations)
            .and_then(Value::as_array_mut);
        for to in all.into_iter().flatten() {
            if let Some(to) = to.as_object_mut() {
                to.remove("weight");
            }
        }
        rule
    }
}
