//! [`Preview`]: what a `dry_run` answers. Nothing in it has been written.

use serde::{Deserialize, Serialize};

use super::view::CheckView;

/// What a start would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preview {
    /// Each change of phase or weight, if every check passes and pods come up as reckoned.
    pub steps: Vec<PlannedStep>,
    /// What would be written, in the order of the first write to each object.
    pub changes: Vec<PlannedChange>,
    /// Each check, asked of the live version now.
    pub checks: Vec<CheckView>,
    /// What the run costs in pods.
    pub replicas: PlannedReplicas,
    /// What to know before.
    pub warnings: Vec<String>,
}

/// One change of phase or weight to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Percent to the canary.
    pub weight: u8,
    /// Flagger's phase.
    pub phase: crate::decide::state::Phase,
    /// Seconds from the start.
    pub after_seconds: i64,
    /// When that would be, started now; RFC 3339.
    pub at: String,
    /// What happens, where phase and weight do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
}

/// One object that would be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedChange {
    /// create, patch or scale.
    pub action: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace and name.
    pub object: String,
    /// What changes.
    pub what: String,
}

/// Pods beside those of now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedReplicas {
    /// The canary's at first.
    pub canary: i64,
    /// The most that its autoscaler may make of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_max: Option<i64>,
    /// Most pods more than now at one time, without autoscaling.
    pub peak_extra: i64,
}
