//! What the machine wants done: [`Effect`]s on the cluster, in order, and [`Tell`]s for people.

use serde::{Deserialize, Serialize};

/// Where requests go. The weighted rule cannot sum to anything but 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    canary: u8,
    matched: bool,
    mirror: u8,
}

impl Traffic {
    /// All requests to the primary.
    pub const PRIMARY: Self = Self {
        canary: 0,
        matched: false,
        mirror: 0,
    };
    /// All requests to the canary.
    pub const CANARY: Self = Self::to_canary(100);
    /// The requests that the plan's match names to the canary, all others to the primary (A/B testing).
    pub const MATCHED: Self = Self {
        matched: true,
        ..Self::PRIMARY
    };

    /// `canary` percent of the requests to the canary (more than 100 is 100), the rest to the primary.
    #[must_use]
    pub const fn to_canary(canary: u8) -> Self {
        Self {
            canary: if canary > 100 { 100 } else { canary },
            ..Self::PRIMARY
        }
    }

    /// All requests to the primary, and a copy of `percent` of them (more than 100 is 100) to the canary, whose answers nobody gets.
    #[must_use]
    pub const fn mirrored(percent: u8) -> Self {
        Self {
            mirror: if percent > 100 { 100 } else { percent },
            ..Self::PRIMARY
        }
    }

    /// What a route that says all three at once would do; only a stored route of somebody else's does.
    #[must_use]
    pub const fn stored(canary: u8, matched: bool, mirror: u8) -> Self {
        Self {
            matched,
            canary: Self::to_canary(canary).canary,
            mirror: Self::mirrored(mirror).mirror,
        }
    }

    /// The canary's percent in the weighted rule.
    #[must_use]
    pub const fn canary(self) -> u8 {
        self.canary
    }

    /// The primary's percent in the weighted rule.
    #[must_use]
    pub const fn primary(self) -> u8 {
        100 - self.canary
    }

    /// Requests that the plan's match names go to the canary, whatever the weight.
    #[must_use]
    pub const fn matches(self) -> bool {
        self.matched
    }

    /// Percent of the requests that are copied to the canary.
    #[must_use]
    pub const fn mirror(self) -> u8 {
        self.mirror
    }

    /// Users may be answered by the canary.
    #[must_use]
    pub const fn serves(self) -> bool {
        self.canary > 0 || self.matched
    }

    /// The canary gets requests, be they only copies.
    #[must_use]
    pub const fn reaches(self) -> bool {
        self.serves() || self.mirror > 0
    }

    /// It gives the canary something that `other` does not.
    #[must_use]
    pub const fn raises(self, other: Self) -> bool {
        self.canary > other.canary
            || (self.matched && !other.matched && other.canary < 100)
            || (self.mirror > other.mirror && !other.serves())
    }

    /// How far a run is with it: copies come before users, some users before a weight.
    #[must_use]
    pub const fn rank(self) -> (u8, bool, u8) {
        (self.canary, self.matched, self.mirror)
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
    /// Send requests so: weights, match and mirror of the route.
    Traffic(Traffic),
    /// Write the kept template that the request names to the target, which makes it a new revision.
    Target,
    /// Take the annotation off that was acted on.
    TakeOff(Annotation),
    /// Pause the target's autoscaler at zero.
    PauseScaler,
    /// Let the target's autoscaler work again.
    ResumeScaler,
    /// Scale the target up to so many replicas; without a number from zero by Flagger's rule: the scaler's minimum, else the primary's replicas,
    /// else 1.
    ScaleUp(Option<u32>),
    /// Scale the target to zero.
    ScaleToZero,
    /// Write a pinned template to the primary: `Promote` copies the run's, `Restore` the one before it.
    Primary(Copied),
    /// Make the primary's autoscaler follow the target's.
    SyncPrimaryScaler,
}

/// An annotation that counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Annotation {
    /// `flagger.app/skip-analysis`.
    SkipAnalysis,
    /// `flagger.app/reset`.
    Reset,
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
    /// What it is about, for hooks that want some only.
    pub about: About,
}

/// What a [`Tell`] is about: what `events` of an event hook can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum About {
    /// A new revision, or another one in mid-run.
    Revision,
    /// Traffic moved, or another interval began.
    Step,
    /// A check or a hook did not pass, or a gate is closed.
    Failed,
    /// The analysis is over and the primary gets the revision.
    AnalysisComplete,
    /// The revision was promoted.
    Promoted,
    /// The run ends or has ended without promotion.
    RolledBack,
    /// Anything else.
    Other,
}

impl About {
    /// Every one with its name in manifests.
    pub const ALL: [(&'static str, Self); 7] = [
        ("revision", Self::Revision),
        ("step", Self::Step),
        ("failed", Self::Failed),
        ("analysis-complete", Self::AnalysisComplete),
        ("promoted", Self::Promoted),
        ("rolledBack", Self::RolledBack),
        ("other", Self::Other),
    ];
}

impl Tell {
    /// A Normal event.
    #[must_use]
    pub fn normal(message: impl Into<String>) -> Self {
        Self {
            warning: false,
            message: message.into(),
            about: About::Other,
        }
    }

    /// A Warning event.
    #[must_use]
    pub fn warning(message: impl Into<String>) -> Self {
        Self {
            warning: true,
            message: message.into(),
            about: About::Other,
        }
    }

    /// The same, about something.
    #[must_use]
    pub fn about(mut self, about: About) -> Self {
        self.about = about;
        self
    }
}
