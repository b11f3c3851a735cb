//! The objects of one Canary, as raw JSON, and how they are named, read and changed.
//!
//! Copied content stays raw, so no field of a newer Kubernetes is dropped.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

/// One object as the API server gave it, `apiVersion` and `kind` included.
pub type Object = Arc<Value>;

/// A kind and its place in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// API group, empty for the core group.
    pub group: &'static str,
    /// The version that we read and write.
    pub version: &'static str,
    /// `kind`.
    pub kind: &'static str,
    /// Resource name in the URL.
    pub plural: &'static str,
}

impl Kind {
    const fn new(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        plural: &'static str,
    ) -> Self {
        Self {
            group,
            version,
            kind,
            plural,
        }
    }

    /// `apiVersion` of its objects.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// `flagger.app/v1beta1` Canary.
pub const CANARY: Kind = Kind::new("flagger.app", "v1beta1", "Canary", "canaries");
/// `flagger.app/v1beta1` `MetricTemplate`.
pub const METRIC_TEMPLATE: Kind = Kind::new(
    "flagger.app",
    "v1beta1",
    "MetricTemplate",
    "metrictemplates",
);
/// `flagger.app/v1beta1` `AlertProvider`.
pub const ALERT_PROVIDER: Kind =
    Kind::new("flagger.app", "v1beta1", "AlertProvider", "alertproviders");
/// `apps/v1` Deployment.
pub const DEPLOYMENT: Kind = Kind::new("apps", "v1", "Deployment", "deployments");
/// `apps/v1` `ReplicaSet`.
pub const REPLICA_SET: Kind = Kind::new("apps", "v1", "ReplicaSet", "replicasets");
/// `apps/v1` `ControllerRevision`.
pub const CONTROLLER_REVISION: Kind =
    Kind::new("apps", "v1", "ControllerRevision", "controllerrevisions");
/// Core Pod.
pub const POD: Kind = Kind::new("", "v1", "Pod", "pods");
/// Core Service.
pub const SERVICE: Kind = Kind::new("", "v1", "Service", "services");
/// Core Secret.
pub const SECRET: Kind = Kind::new("", "v1", "Secret", "secrets");
/// Core Node.
pub const NODE: Kind = Kind::new("", "v1", "Node", "nodes");
/// Core Namespace.
pub const NAMESPACE: Kind = Kind::new("", "v1", "Namespace", "namespaces");
/// `events.k8s.io/v1` Event.
pub const EVENT: Kind = Kind::new("events.k8s.io", "v1", "Event", "events");
/// `coordination.k8s.io/v1` Lease.
pub const LEASE: Kind = Kind::new("coordination.k8s.io", "v1", "Lease", "leases");
/// KEDA `ScaledObject`.
pub const SCALED_OBJECT: Kind = Kind::new("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects");
/// Istio `VirtualService`.
pub const VIRTUAL_SERVICE: Kind = Kind::new(
    "networking.istio.io",
    "v1beta1",
    "VirtualService",
    "virtualservices",
);
/// Istio `DestinationRule`.
pub const DESTINATION_RULE: Kind = Kind::new(
    "networking.istio.io",
    "v1beta1",
    "DestinationRule",
    "destinationrules",
);

/// Gateway API `HTTPRoute`.
pub const HTTP_ROUTE: Kind =
    Kind::new("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes");

/// `CustomResourceDefinition`; cluster-wide.
pub const CUSTOM_RESOURCE_DEFINITION: Kind = Kind::new(
    "apiextensions.k8s.io",
    "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
);

/// Names one object; the namespace is empty for a cluster-wide one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ref {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for Ref {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind.kind, self.namespace, self.name)
    }
}

/// One change of one object. `cluster` adds what makes it safe: tests of uid, generation or resourceVersion, and of the epoch.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// POST a new object. `AlreadyExists` is an error.
    Create(Value),
    /// JSON Patch of exactly these paths, made against `from`; fails when `from`'s uid or generation (resourceVersion where
    /// the kind has no generation) is no longer current.
    Patch {
        /// The object that the operations were made for.
        from: Object,
        /// RFC 6902 operations.
        ops: Vec<Value>,
    },
    /// Merge patch, with `from`'s `metadata.resourceVersion` in it: an annotation taken off by null.
    Merge {
        /// The object that the patch was made for.
        from: Object,
        /// The merge patch, without resourceVersion.
        patch: Value,
    },
    /// PUT of the scale subresource with `from`'s resourceVersion.
    Scale {
        /// The workload to scale.
        from: Object,
        /// Its new `spec.replicas`.
        replicas: u32,
    },
    /// DELETE with `from`'s uid as precondition.
    Delete {
        /// The object to delete.
        from: Object,
    },
}

/// Which Gateway API a cluster has, by the annotations of the `HTTPRoute`'s definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayApi {
    /// `gateway.networking.k8s.io/bundle-version`: `v1.3.0`.
    pub version: String,
    /// `gateway.networking.k8s.io/channel` is `experimental`.
    pub experimental: bool,
}

impl GatewayApi {
    /// As the definition of `HTTPRoute` says it.
    #[must_use]
    pub fn of(definition: &Value) -> Option<Self> {
        let channel = definition.annotation("gateway.networking.k8s.io/channel");
        Some(Self {
            version: definition
                .annotation("gateway.networking.k8s.io/bundle-version")?
                .to_owned(),
            experimental: channel == Some("experimental"),
        })
    }

    /// Copies of a part of the requests (`RequestMirror` with `percent`), which is standard from v1.3.0 on.
    #[must_use]
    pub fn copies_a_part(&self) -> bool {
        self.is_from(3)
    }

    /// The CORS filter, which is standard from v1.5.0 on, and was experimental from v1.3.0 on.
    #[must_use]
    pub fn has_cors(&self) -> bool {
        self.is_from(if self.experimental { 3 } else { 5 })
    }

    /// v1.`minor` or newer.
    fn is_from(&self, minor: u32) -> bool {
        let mut parts = self.version.trim_start_matches('v').split(['.', '-']);
        let mut part = || parts.next().and_then(|part| part.parse::<u32>().ok());
        matches!((part(), part()), (Some(major), Some(is)) if (major, is) >= (1, minor))
    }
}

/// Everything that decisions, builders and views read of one Canary.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// Name of the cluster.
    pub cluster: String,
    /// The Canary itself.
    pub canary: Object,
    /// The Deployment that `targetRef` names.
    pub target: Option<Object>,
    /// Deployment `T-primary`.
    pub primary: Option<Object>,
    /// Service `S`.
    pub apex: Option<Object>,
    /// Service `S-primary`.
    pub primary_service: Option<Object>,
    /// Service `S-canary`.
    pub canary_service: Option<Object>,
    /// `VirtualService` `S`.
    pub virtual_service: Option<Object>,
    /// `DestinationRule` `S-primary`.
    pub primary_rule: Option<Object>,
    /// `DestinationRule` `S-canary`.
    pub canary_rule: Option<Object>,
    /// `HTTPRoute` `S`.
    pub http_route: Option<Object>,
    /// The Gateway API that the cluster has; `None` when it has none, or when nobody could say.
    pub gateway_api: Option<GatewayApi>,
    /// The `ScaledObject` that `autoscalerRef` names.
    pub scaler: Option<Object>,
    /// `ScaledObject` `REF-primary`.
    pub primary_scaler: Option<Object>,
    /// `ControllerRevisions` owned by the Canary.
    pub revisions: Vec<Object>,
    /// Pods of both copies.
    pub pods: Vec<Object>,
    /// `ReplicaSets` of both copies: which pods are of which template.
    pub replica_sets: Vec<Object>,
    /// `MetricTemplates` that the checks name, by (namespace, name).
    pub templates: BTreeMap<(String, String), Object>,
    /// Events of the Canary in any order; only for views.
    pub events: Vec<Object>,
    /// Holder of the cluster's fresh Lease; only for views.
    pub led_by: Option<String>,
}

/// Reads of a raw object that every layer needs.
pub trait ObjectExt {
    /// `metadata.name`.
    fn name(&self) -> &str;
    /// `metadata.namespace`, empty for a cluster-wide object.
    fn namespace(&self) -> &str;
    /// `metadata.uid`.
    fn uid(&self) -> &str;
    /// `metadata.resourceVersion`.
    fn resource_version(&self) -> &str;
    /// `metadata.generation`.
    fn generation(&self) -> Option<i64>;
    /// It is about to go: what it owns is being taken away, and is not to be made anew.
    fn is_being_deleted(&self) -> bool;
    /// One annotation.
    fn annotation(&self, key: &str) -> Option<&str>;
    /// One label.
    fn label(&self, key: &str) -> Option<&str>;
    /// An object of this uid is among its owners.
    fn owned_by(&self, uid: &str) -> bool;
    /// The string at a JSON pointer.
    fn str_at(&self, pointer: &str) -> Option<&str>;
    /// The integer at a JSON pointer.
    fn int_at(&self, pointer: &str) -> Option<i64>;
    /// The array at a JSON pointer; empty when there is none.
    fn array_at(&self, pointer: &str) -> &[Value];
}

impl ObjectExt for Value {
    fn name(&self) -> &str {
        self.str_at("/metadata/name").unwrap_or_default()
    }
    fn namespace(&self) -> &str {
        self.str_at("/metadata/namespace").unwrap_or_default()
    }
    fn uid(&self) -> &str {
        self.str_at("/metadata/uid").unwrap_or_default()
    }
    fn resource_version(&self) -> &str {
        self.str_at("/metadata/resourceVersion").unwrap_or_default()
    }
    fn generation(&self) -> Option<i64> {
        self.int_at("/metadata/generation")
    }
    fn is_being_deleted(&self) -> bool {
        self.str_at("/metadata/deletionTimestamp").is_some()
    }
    fn annotation(&self, key: &str) -> Option<&str> {
        self["metadata"]["annotations"][key].as_str()
    }
    fn label(&self, key: &str) -> Option<&str> {
        self["metadata"]["labels"][key].as_str()
    }
    fn owned_by(&self, uid: &str) -> bool {
        self.array_at("/metadata/ownerReferences")
            .iter()
            .any(|owner| owner.str_at("/uid") == Some(uid))
    }
    fn str_at(&self, pointer: &str) -> Option<&str> {
        self.pointer(pointer).and_then(Value::as_str)
    }
    fn int_at(&self, pointer: &str) -> Option<i64> {
        self.pointer(pointer).and_then(Value::as_i64)
    }
    fn array_at(&self, pointer: &str) -> &[Value] {
        self.pointer(pointer)
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }
}
