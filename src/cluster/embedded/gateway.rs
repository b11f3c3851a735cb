//! Gateway API: its kinds, and what tests and rehearsals do to the controller that accepts routes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::api::objects::Kind;

/// `spec.controllerName` of the classes whose gateways are programmed here, and the controller that answers for Services of the mesh.
pub const CONTROLLER: &str = "canary-mcp.dev/embedded-gateway";

const GROUP: &str = "gateway.networking.k8s.io";

/// `gateway.networking.k8s.io/v1` `GatewayClass`; cluster-wide.
pub(super) const GATEWAY_CLASS: Kind = Kind {
    group: GROUP,
    version: "v1",
    kind: "GatewayClass",
    plural: "gatewayclasses",
};
/// `gateway.networking.k8s.io/v1` Gateway.
pub(super) const GATEWAY: Kind = Kind {
    group: GROUP,
    version: "v1",
    kind: "Gateway",
    plural: "gateways",
};
/// `gateway.networking.k8s.io/v1` `HTTPRoute`.
pub(super) const HTTP_ROUTE: Kind = Kind {
    group: GROUP,
    version: "v1",
    kind: "HTTPRoute",
    plural: "httproutes",
};
/// `gateway.networking.k8s.io/v1` `ReferenceGrant`.
pub(super) const REFERENCE_GRANT: Kind = Kind {
    group: GROUP,
    version: "v1",
    kind: "ReferenceGrant",
    plural: "referencegrants",
};

/// From a change of a route to the word of its controller, milliseconds.
const LAG_MS: i64 = 500;

/// How a cluster's controller accepts routes. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Acceptance(Arc<Mutex<Mode>>);

#[derive(Debug, Clone, Default)]
pub(super) enum Mode {
    /// As the routes deserve, soon.
    #[default]
    Sound,
    /// As they deserve, so many milliseconds after a change.
    Late(i64),
    /// Nothing is said of changes any more.
    Silent,
    /// This condition is false, for this reason.
    Refusing {
        condition: String,
        reason: String,
        message: String,
    },
}

impl Acceptance {
    /// From now on the controller looks at a changed route so many virtual milliseconds later. Until then its status is that of the
    /// generation before, and traffic goes as that says.
    pub fn late(&self, ms: i64) {
        *self.lock() = Mode::Late(ms);
    }

    /// From now on the controller is silent: no status changes, and traffic goes as it went.
    pub fn silent(&self) {
        *self.lock() = Mode::Silent;
    }

    /// From now on every route is refused: condition `Accepted` or `ResolvedRefs` is false for this reason. A route that is not accepted
    /// takes no traffic.
    pub fn refuse(&self, condition: &str, reason: &str, message: &str) {
        *self.lock() = Mode::Refusing {
            condition: condition.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
    }

    /// All is well again, also for what was refused or not looked at.
    pub fn sound(&self) {
        *self.lock() = Mode::Sound;
    }

    pub(super) fn mode(&self) -> Mode {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Mode> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mode {
    /// How long the controller takes for a change; `None`: for ever.
    pub(super) fn lag_ms(&self) -> Option<i64> {
        match self {
            Self::Sound | Self::Refusing { .. } => Some(LAG_MS),
            Self::Late(ms) => Some(*ms),
            Self::Silent => None,
        }
    }
}

#[cfg(test)]
#[path = "gateway_tests.rs"]
mod tests;
