//! What routes the requests of an embedded cluster: what is installed for it, and what is measured by whom.

use serde_json::{Value, json};

/// What routes the requests of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mesh {
    /// Istio: `VirtualServices`, and sidecars that measure.
    #[default]
    Istio,
    /// Gateway API with one Gateway, `istio-ingress/gateway`; the servers measure.
    GatewayApi,
    /// Gateway API without a Gateway: `HTTPRoutes` have Services as parents (GAMMA), as with Linkerd, whose proxies measure beside the
    /// servers.
    Gamma,
    /// Nothing: requests go to what a Service selects; the servers measure.
    None,
}

/// Gateway API v1.6.1, standard channel.
const GATEWAY_API: [(&str, &str); 4] = [
    (
        "crds/gateway-api/gatewayclasses.yaml",
        include_str!("crds/gateway-api/gatewayclasses.yaml"),
    ),
    (
        "crds/gateway-api/gateways.yaml",
        include_str!("crds/gateway-api/gateways.yaml"),
    ),
    (
        "crds/gateway-api/httproutes.yaml",
        include_str!("crds/gateway-api/httproutes.yaml"),
    ),
    (
        "crds/gateway-api/referencegrants.yaml",
        include_str!("crds/gateway-api/referencegrants.yaml"),
    ),
];

impl Mesh {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Istio, Self::GatewayApi, Self::Gamma, Self::None];

    /// What its installation brings, in the order in which it is applied.
    pub(super) fn manifests(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Self::Istio => vec![("crds/istio.yaml", include_str!("crds/istio.yaml"))],
            Self::GatewayApi => {
                let gateway = ("gateway.yaml", include_str!("gateway.yaml"));
                GATEWAY_API.into_iter().chain([gateway]).collect()
            }
            Self::Gamma => GATEWAY_API.to_vec(),
            Self::None => Vec::new(),
        }
    }

    /// The example's Canary as its author would have written it for this cluster.
    pub(super) fn adapt(self, canary: &mut Value) {
        let (name, namespace) = (
            &canary["metadata"]["name"],
            &canary["metadata"]["namespace"],
        );
        let parent = match self {
            Self::Istio | Self::None => Value::Null,
            Self::GatewayApi => json!({"name": "gateway", "namespace": "istio-ingress"}),
            Self::Gamma => json!({
                "group": "core",
                "kind": "Service",
                "name": name,
                "namespace": namespace,
                "port": canary["spec"]["service"]["port"],
            }),
        };
        let spec = &mut canary["spec"];
        match self {
            Self::Istio => {}
            Self::GatewayApi | Self::Gamma => {
                spec["provider"] = json!("gatewayapi:v1");
                spec["service"]["gatewayRefs"] = json!([parent]);
            }
            Self::None => {
                spec["provider"] = json!("kubernetes");
                // Nothing splits requests: the new version is checked beside the old one.
                if let Some(analysis) = spec["analysis"].as_object_mut() {
                    analysis.remove("maxWeight");
                    analysis.remove("stepWeight");
                    analysis.insert("iterations".to_owned(), json!(5));
                }
            }
        }
    }
}
