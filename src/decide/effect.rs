//! What the machine wants done: [`Effect`]s on the cluster, in order, and [`Tell`]s for people.

use serde::{Deserialize, Serialize};

/// How traffic is split. It cannot sum to anything but 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weights {
    canary: u8,
}

impl Weights {
    /// All traffic to the primary.
    pub const PRIMARY: Self = Self { canary: 0 };
    /// All traffic to the canary.
    pub const CANARY: Self = Self { canary: 100 };

    /// `canary` percent to the canary (more than 100 is 100), the rest to the primary.
    #[must_use]
    pub fn to_canary(canary: u8) -> Self {
        Self {
            canary: canary.min(100),
        }
    }

    /// The canary's percent.
    #[must_use]
    pub fn canary(self) -> u8 {
        self.canary
    }

    /// The primary's percent.
    #[must_use]
    pub fn primary(self) -> u8 {
        100 - self.canary
    }
}

/// One change of the cluster. Each is idempotent: on a world that already has it, it writes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Keep the run's template as an `apps/v1` `ControllerRevision` owned by the Canary, and drop those that no run can need.
    Pin,
    /// Create `S-canary` and `S-primary`, or put their ports and selectors right. Never touches the apex.
    Services,
    /// Create the primary workload, if there is none: with the promoted pin's template ([`State::promoted_pin`](super::state::State)),
    /// from the live target only where no such pin is named, or where it is gone and the target still has the promoted revision.
    CreatePrimary,
    /// Create the primary's autoscaler, if there is none.
    CreatePrimaryScaler,
    /// Create the apex Service, or make it select the primary (adopting one that exists).
    Apex,
    /// Create the routes at 100/0, or take over what is there; weights of an existing route are kept.
    Route,
    /// Split traffic.
    Weights(Weights),
    /// Pause the target's autoscaler at zero.
    PauseScaler,
    /// Let the target's autoscaler work again.
    ResumeScaler,
    /// Scale the target up from zero (Flagger: the scaler's minimum, else the primary's replicas, else 1).
    ScaleUp,
    /// Scale the target to zero.
    ScaleToZero,
    /// Write a pinned template to the primary: `Promote` copies the run's, `Restore` the one before it.
    Primary(Copied),
    /// Make the primary's autoscaler follow the target's.
    SyncPrimaryScaler,
}

/// Which pinned template the primary gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// The template of this run.
    Promoted,
    /// The template that the primary had before this run.
    Previous,
}

/// Something that people are told: a Kubernetes event on the Canary and a log line, queued, never awaited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tell {
    /// `Warning`, else `Normal`.
    pub warning: bool,
    /// The sentence; Flagger's text where Flagger has one.
    pub message: String,
}

impl Tell {
    /// A Normal event.
    #[must_use]
    pub fn normal(message: impl Into<String>) -> Self {
        Self {
            warning: false,
            message: message.into(),
        }
    }

    /// A Warning event.
    #[must_use]
    pub fn warning(message: impl Into<String>) -> Self {
        Self {
            warning: true,
            message: message.into(),
        }
    }
}
