//! What this process may do in a cluster, as the API server tells it: `SelfSubjectRulesReview` for a whole namespace at once, and
//! `SelfSubjectAccessReview` for one right, which also knows of authorisers that cannot list their rules (webhooks, aggregation).

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::{
    Cluster, Error,
    error::Context,
    prepare::JSON,
    wire::{self, Call},
};
use crate::api::{objects::ObjectExt, rights::Right};

/// A review may take this long, in real time.
const REVIEW_WITHIN: Duration = Duration::from_secs(5);
const AUTHORIZATION: &str = "/apis/authorization.k8s.io/v1";
const AUTHENTICATION: &str = "/apis/authentication.k8s.io/v1";

/// The rules of one namespace that the API server can list.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules(Vec<Value>);

impl Rules {
    /// One of the rules grants it. What is not among them may still be granted: see [`Cluster::may`].
    #[must_use]
    pub fn grant(&self, right: &Right) -> bool {
        let (_, sub) = right.parts();
        let any_of = |rule: &Value, field: &str, wanted: &[&str]| {
            let words = rule.array_at(field).iter().filter_map(Value::as_str);
            words.into_iter().any(|word| wanted.contains(&word))
        };
        let every_sub = format!("*/{sub}");
        // A rule for named objects grants the right on those, not on any.
        self.0.iter().any(|rule| {
            rule.array_at("/resourceNames").is_empty()
                && any_of(rule, "/verbs", &[right.verb, "*"])
                && any_of(rule, "/apiGroups", &[right.group, "*"])
                && (any_of(rule, "/resources", &[right.resource, "*"])
                    || (!sub.is_empty() && any_of(rule, "/resources", &[&every_sub])))
        })
    }
}

impl Cluster {
    /// What this process may do in a namespace, as far as the API server can list it. One request.
    ///
    /// # Errors
    /// `Forbidden` where not even this may be asked; `Unreachable`, `Rejected`.
    pub async fn rules(&self, namespace: &str) -> Result<Rules, Error> {
        let spec = json!({"namespace": namespace});
        let status = self
            .review(AUTHORIZATION, "SelfSubjectRulesReview", namespace, spec)
            .await?;
        Ok(Rules(status.array_at("/resourceRules").to_vec()))
    }

    /// Whether this process has one right in a namespace, whoever grants it. One request.
    ///
    /// # Errors
    /// As [`Cluster::rules`].
    pub async fn may(&self, namespace: &str, right: &Right) -> Result<bool, Error> {
        let (resource, subresource) = right.parts();
        let spec = json!({"resourceAttributes": {
            "namespace": namespace,
            "verb": right.verb,
            "group": right.group,
            "resource": resource,
            "subresource": subresource,
        }});
        let status = self
            .review(AUTHORIZATION, "SelfSubjectAccessReview", namespace, spec)
            .await?;
        Ok(status["allowed"] == Value::Bool(true))
    }

    /// Who this process is to the API server; `None` where that cannot be asked (Kubernetes before 1.28).
    pub async fn user(&self) -> Option<String> {
        let status = self
            .review(AUTHENTICATION, "SelfSubjectReview", "", Value::Null)
            .await
            .ok()?;
        status.str_at("/userInfo/username").map(str::to_owned)
    }

    async fn review(
        &self,
        root: &str,
        kind: &'static str,
        namespace: &str,
        spec: Value,
    ) -> Result<Value, Error> {
        let plural = format!("{}s", kind.to_lowercase());
        let group = root.trim_start_matches("/apis/");
        let mut review = json!({"apiVersion": group, "kind": kind});
        if !spec.is_null() {
            review["spec"] = spec;
        }
        let path = format!("{root}/{plural}");
        let call = Call::write(Method::POST, path, JSON, &review, REVIEW_WITHIN);
        let answer = wire::send(&self.shared.spec.client, call).await;
        answer
            .map(|mut answer| answer.body["status"].take())
            .map_err(|cause| {
                let context = Context {
                    cluster: self.name(),
                    operation: "create",
                    object: &format!("a {kind}"),
                    resource: &format!("{plural}.{}", group.trim_end_matches("/v1")),
                    namespace,
                };
                Error::new(context, cause)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_grants_what_rbac_grants() {
        let scale = Right {
            verb: "update",
            group: "apps",
            resource: "deployments/scale",
        };
        for (verbs, groups, resources, names, expected) in [
            ("update", "apps", "deployments/scale", "", true),
            ("*", "*", "*", "", true),
            ("update", "apps", "*/scale", "", true),
            ("update", "apps", "deployments", "", false),
            ("update", "apps", "*/status", "", false),
            ("patch", "apps", "deployments/scale", "", false),
            ("update", "", "deployments/scale", "", false),
            ("update", "apps", "deployments/scale", "web", false),
        ] {
            let names: Vec<&str> = names.split(' ').filter(|name| !name.is_empty()).collect();
            let rule = json!({"verbs": ["get", verbs], "apiGroups": [groups], "resources": ["x", resources], "resourceNames": names});
            assert_eq!(Rules(vec![rule.clone()]).grant(&scale), expected, "{rule}");
        }
        let deployments = Right {
            resource: "deployments",
            ..scale
        };
        let rule =
            json!({"verbs": ["update"], "apiGroups": ["apps"], "resources": ["*/", "*/scale"]});
        assert!(!Rules(vec![rule]).grant(&deployments));
    }
}
