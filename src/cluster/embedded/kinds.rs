//! What is served: one row per built-in resource, and what a custom resource definition adds to that.

use std::sync::Arc;

use serde_json::Value;

use super::{fields::shape::Shape, store::ResourceKey};
use crate::api::objects::Kind;

/// One version of one resource, as served.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Served {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) plural: String,
    pub(super) singular: String,
    pub(super) short_names: Vec<String>,
    pub(super) categories: Vec<String>,
    pub(super) namespaced: bool,
    /// Has the status subresource.
    pub(super) status: bool,
    pub(super) scale: Option<Scale>,
    /// Objects carry `metadata.generation`.
    pub(super) generation: bool,
    /// What the custom resource definition says; `None` for a built-in kind.
    pub(super) custom: Option<Arc<Custom>>,
}

/// Where a kind keeps what its scale subresource shows, as JSON pointers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scale {
    pub(super) spec_replicas: String,
    pub(super) status_replicas: String,
    /// A label selector, or a string of one; `None` when the kind has none.
    pub(super) selector: Option<String>,
}

/// What only a custom resource has.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Custom {
    /// `openAPIV3Schema` of this version.
    pub(super) schema: Value,
    /// What it says of who owns what.
    pub(super) shape: Arc<Shape>,
    /// `additionalPrinterColumns` of this version.
    pub(super) columns: Vec<Value>,
}

impl Served {
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `deployments.apps`, or `pods` in the core group: how messages name a resource.
    pub(super) fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// Only POST, and nothing is stored: reviews.
    pub(super) fn create_only(&self) -> bool {
        matches!(
            self.group.as_str(),
            "authorization.k8s.io" | "authentication.k8s.io"
        )
    }

    /// Where its objects are stored.
    pub(super) fn key(&self) -> ResourceKey {
        storage_key(&self.group, &self.plural)
    }

    pub(super) fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }

    /// The storage form differs from the served one in more than `apiVersion`.
    pub(super) fn is_core_event(&self) -> bool {
        self.is("", "Event")
    }

    pub(super) fn is_event(&self) -> bool {
        self.kind == "Event" && (self.group.is_empty() || self.group == EVENTS)
    }
}

/// The group whose events are the storage form.
pub(super) const EVENTS: &str = "events.k8s.io";

/// Both event groups share one storage.
pub(super) fn storage_key(group: &str, plural: &str) -> ResourceKey {
    let group = if group.is_empty() && plural == "events" {
        EVENTS
    } else {
        group
    };
    ResourceKey {
        group: group.to_owned(),
        plural: plural.to_owned(),
    }
}

/// Everything that is served, built-in kinds first.
#[derive(Debug, Clone)]
pub(super) struct Catalog {
    rows: Vec<Arc<Served>>,
}

impl Catalog {
    /// The built-in kinds.
    pub(super) fn builtin() -> Self {
        Self {
            rows: BUILTIN.iter().map(|row| Arc::new(row.served())).collect(),
        }
    }

    pub(super) fn rows(&self) -> &[Arc<Served>] {
        &self.rows
    }

    pub(super) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Served>> {
        self.rows
            .iter()
            .find(|s| s.group == group && s.version == version && s.plural == plural)
            .cloned()
    }

    pub(super) fn of(&self, kind: &Kind) -> Option<Arc<Served>> {
        self.find(kind.group, kind.version, kind.plural)
    }

    /// Some version of the resource with this storage key.
    pub(super) fn stored(&self, key: &ResourceKey) -> Option<Arc<Served>> {
        self.rows
            .iter()
            .find(|s| s.group == key.group && s.plural == key.plural)
            .cloned()
    }

    /// Puts `versions` in the place of all versions of the custom resource `key`.
    pub(super) fn replace_custom(&mut self, key: &ResourceKey, versions: Vec<Served>) {
        self.rows
            .retain(|s| s.custom.is_none() || s.group != key.group || s.plural != key.plural);
        self.rows.extend(versions.into_iter().map(Arc::new));
    }
}

/// One built-in resource. `flags`: `n` namespaced, `s` status, `g` generation, `c` scale, `a` category `all`.
struct Row {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    flags: &'static str,
}

const fn row(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    flags: &'static str,
) -> Row {
    Row {
        group,
        version,
        kind,
        plural,
        short,
        flags,
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";

const BUILTIN: &[Row] = &[
    row("", "v1", "Namespace", "namespaces", &["ns"], "s"),
    row("", "v1", "Node", "nodes", &["no"], "s"),
    row("", "v1", "Pod", "pods", &["po"], "nsa"),
    row("", "v1", "Service", "services", &["svc"], "nsa"),
    row("", "v1", "ConfigMap", "configmaps", &["cm"], "n"),
    row("", "v1", "Secret", "secrets", &[], "n"),
    row("", "v1", "ServiceAccount", "serviceaccounts", &["sa"], "n"),
    row("", "v1", "Event", "events", &["ev"], "n"),
    row("", "v1", "Endpoints", "endpoints", &["ep"], "n"),
    row("events.k8s.io", "v1", "Event", "events", &[], "n"),
    row(
        "apps",
        "v1",
        "Deployment",
        "deployments",
        &["deploy"],
        "nsgca",
    ),
    row("apps", "v1", "ReplicaSet", "replicasets", &["rs"], "nsgca"),
    row(
        "apps",
        "v1",
        "StatefulSet",
        "statefulsets",
        &["sts"],
        "nsgca",
    ),
    row("apps", "v1", "DaemonSet", "daemonsets", &["ds"], "nsga"),
    row(
        "apps",
        "v1",
        "ControllerRevision",
        "controllerrevisions",
        &[],
        "n",
    ),
    row(
        "discovery.k8s.io",
        "v1",
        "EndpointSlice",
        "endpointslices",
        &[],
        "ng",
    ),
    row(
        "autoscaling",
        "v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        &["hpa"],
        "nsa",
    ),
    row("coordination.k8s.io", "v1", "Lease", "leases", &[], "n"),
    row(
        "networking.k8s.io",
        "v1",
        "Ingress",
        "ingresses",
        &["ing"],
        "nsg",
    ),
    row(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        &["crd", "crds"],
        "sg",
    ),
    row(RBAC, "v1", "Role", "roles", &[], "n"),
    row(RBAC, "v1", "RoleBinding", "rolebindings", &[], "n"),
    row(RBAC, "v1", "ClusterRole", "clusterroles", &[], ""),
    row(
        RBAC,
        "v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
        &[],
        "",
    ),
    row(
        "authentication.k8s.io",
        "v1",
        "SelfSubjectReview",
        "selfsubjectreviews",
        &[],
        "",
    ),
    row(
        "authorization.k8s.io",
        "v1",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        &[],
        "",
    ),
    row(
        "authorization.k8s.io",
        "v1",
        "SelfSubjectRulesReview",
        "selfsubjectrulesreviews",
        &[],
        "",
    ),
];

impl Row {
    fn served(&self) -> Served {
        let Self {
            group,
            version,
            kind,
            plural,
            short,
            flags,
        } = self;
        let categories: &[&str] = if flags.contains('a') { &["all"] } else { &[] };
        Served {
            group: (*group).to_owned(),
            version: (*version).to_owned(),
            kind: (*kind).to_owned(),
            plural: (*plural).to_owned(),
            singular: kind.to_lowercase(),
            short_names: short.iter().map(|s| (*s).to_owned()).collect(),
            categories: categories.iter().map(|s| (*s).to_owned()).collect(),
            namespaced: flags.contains('n'),
            status: flags.contains('s'),
            scale: flags.contains('c').then(|| Scale {
                spec_replicas: "/spec/replicas".to_owned(),
                status_replicas: "/status/replicas".to_owned(),
                selector: Some("/spec/selector".to_owned()),
            }),
            generation: flags.contains('g'),
            custom: None,
        }
    }
}
