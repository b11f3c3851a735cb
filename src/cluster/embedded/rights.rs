//! What a caller of an embedded cluster may do: everything, but for what a test or a rehearsal takes away ([`Faults::deny`]).
//!
//! What is taken away is refused, and told by the reviews, in the words of RBAC on a real cluster.

use serde_json::{Value, json};

use super::{
    kinds::{Catalog, Served},
    route::Target,
    status::Status,
};
use crate::api::{objects::ObjectExt, rights::Right};

#[cfg(doc)]
use super::faults::Faults;

/// Who everybody is here.
const USER: &str = "embedded";
/// Every verb of RBAC that an object has.
const VERBS: [&str; 8] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
];
/// Every subresource that somebody asks for.
const SUBRESOURCES: [&str; 5] = ["status", "scale", "finalizers", "proxy", "portforward"];

/// What a request asks for, as RBAC sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) verb: &'a str,
    pub(super) target: &'a Target,
}

impl Asked<'_> {
    /// One of `denied` is what is asked for.
    pub(super) fn is_among(&self, denied: &[Right]) -> bool {
        let resource = self.resource();
        denied.iter().any(|right| {
            (right.verb, right.group, right.resource) == (self.verb, &self.target.group, &resource)
        })
    }

    fn resource(&self) -> String {
        match (&self.target.plural, self.target.subresource.as_str()) {
            (plural, "") => plural.clone(),
            (plural, sub) => format!("{plural}/{sub}"),
        }
    }

    /// The answer to what is not allowed.
    pub(super) fn refusal(&self) -> Status {
        let Target {
            group,
            plural,
            namespace,
            name,
            ..
        } = self.target;
        let place = if namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {namespace:?}")
        };
        let why = format!(
            "User {USER:?} cannot {} resource {:?} in API group {group:?} {place}",
            self.verb,
            self.resource()
        );
        Status::not_allowed(group, plural, name, &why)
    }
}

/// The `status` of a review, given what is denied.
pub(super) fn review(
    served: &Served,
    catalog: &Catalog,
    review: &Value,
    denied: &[Right],
) -> Value {
    match served.kind.as_str() {
        "SelfSubjectRulesReview" => json!({
            "resourceRules": rules(catalog, denied),
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": false,
        }),
        "SelfSubjectReview" => json!({
            "userInfo": {"username": USER, "groups": ["system:authenticated"]},
        }),
        _ => access(review, denied),
    }
}

fn access(review: &Value, denied: &[Right]) -> Value {
    let of = |field: &str| {
        let path = format!("/spec/resourceAttributes/{field}");
        review.str_at(&path).unwrap_or_default().to_owned()
    };
    let resource = match of("subresource").as_str() {
        "" => of("resource"),
        sub => format!("{}/{sub}", of("resource")),
    };
    let (verb, group) = (of("verb"), of("group"));
    let is = |right: &Right| {
        (right.verb, right.group, right.resource) == (verb.as_str(), &group, &resource)
    };
    if denied.iter().any(is) {
        return json!({"allowed": false});
    }
    json!({"allowed": true, "reason": "the embedded cluster allows everything"})
}

/// All rights in one rule, or one for each resource where something is denied.
fn rules(catalog: &Catalog, denied: &[Right]) -> Value {
    if denied.is_empty() {
        return json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
    }
    let mut rules = Vec::new();
    for row in catalog.rows() {
        let subs = SUBRESOURCES.map(|sub| format!("{}/{sub}", row.plural));
        for resource in [row.plural.clone()].into_iter().chain(subs) {
            let is_denied = |verb: &str| {
                denied.iter().any(|right| {
                    (right.verb, right.group, right.resource) == (verb, &row.group, &resource)
                })
            };
            let verbs: Vec<&str> = VERBS.into_iter().filter(|verb| !is_denied(verb)).collect();
            rules.push(json!({"verbs": verbs, "apiGroups": [row.group], "resources": [resource]}));
        }
    }
    Value::Array(rules)
}
