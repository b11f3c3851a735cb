//! [`GateState`]: the gates that our HTTP endpoints answer for, kept in one annotation of the Canary.
//!
//! They are those of Flagger's load tester (`/gate/check`, `/rollback/check`, closed at first), for whoever drives the Canary. In an annotation
//! they are the same for every replica and outlive all of them. Opened at its own address a gate stays open until somebody closes it, as
//! the load tester's does. Opened by `promote` or `rollback` it is open for what the person has seen and no longer: a gate that stayed
//! open would let the next version pass unseen, or roll it back.

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{names, objects::ObjectExt};

/// Which of a Canary's two gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Lets a rollout go on: `/gate/{cluster}/check`.
    Advance,
    /// Asks for a rollback: `/rollback/{cluster}/check`.
    Rollback,
}

impl Gate {
    /// The first segment of its paths.
    #[must_use]
    pub fn segment(self) -> &'static str {
        match self {
            Self::Advance => "gate",
            Self::Rollback => "rollback",
        }
    }
}

/// Both gates of one Canary.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GateState {
    /// The gate that lets a rollout go on.
    #[serde(default)]
    gate: Position,
    /// What `gate` is open for; absent: whatever comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gate_for: Option<Bound>,
    /// The gate that asks for a rollback.
    #[serde(default)]
    rollback: Position,
    /// What `rollback` is open for; absent: whatever comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rollback_for: Option<Bound>,
    /// Who changed it last; absent when that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<String>,
}

/// Open or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Position {
    Open,
    #[default]
    Closed,
}

/// Where a rollout is, as far as an opening is bound to it. All of it is what Flagger writes too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bound {
    /// `status.lastAppliedSpec`. While a rollout waits for its start, Flagger leaves the one before here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    /// Since when condition `Promoted` has the status that it has: a run of the same revision again has another time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// `Waiting` while the start waits; an approval of the start is none of the promotion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    phase: Option<String>,
    /// The canary's percent while the next step waits; an approval of one step is none of the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<i64>,
}

/// How long a gate is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Until it is closed.
    Open,
    /// For this part of a rollout.
    OpenFor(Bound),
    /// Until it is opened.
    Close,
}

/// A hook of the Canary's analysis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HookRef<'a> {
    /// Its name.
    pub name: &'a str,
    /// It asks the gate of ours that was looked for.
    pub ours: bool,
}

// === impl GateState ===

impl GateState {
    /// As the annotation has it. One that cannot be read is closed, as an absent one is.
    #[must_use]
    pub fn of(canary: &Value) -> Self {
        canary
            .annotation(names::GATE_STATE)
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }

    /// The gate is open for where the Canary is now.
    #[must_use]
    pub fn is_open(&self, gate: Gate, canary: &Value) -> bool {
        let (position, bound) = match gate {
            Gate::Advance => (self.gate, &self.gate_for),
            Gate::Rollback => (self.rollback, &self.rollback_for),
        };
        position == Position::Open && bound.as_ref().is_none_or(|bound| bound.is_now(canary))
    }

    /// The state after this change, by whom and when.
    #[must_use]
    pub fn changed(mut self, gate: Gate, change: Change, by: Option<&str>, at: String) -> Self {
        let (position, bound) = match change {
            Change::Open => (Position::Open, None),
            Change::OpenFor(moment) => (Position::Open, Some(moment)),
            Change::Close => (Position::Closed, None),
        };
        match gate {
            Gate::Advance => (self.gate, self.gate_for) = (position, bound),
            Gate::Rollback => (self.rollback, self.rollback_for) = (position, bound),
        }
        self.by = by.map(str::to_owned);
        self.at = Some(at);
        self
    }

    /// The gate is as `change` would leave it, whoever made it so.
    #[must_use]
    pub fn is(&self, gate: Gate, change: &Change) -> bool {
        let after = self
            .clone()
            .changed(gate, change.clone(), None, String::new());
        (self.gate, &self.gate_for, self.rollback, &self.rollback_for)
            == (
                after.gate,
                &after.gate_for,
                after.rollback,
                &after.rollback_for,
            )
    }
}

// === impl Bound ===

impl Bound {
    /// The rest of the run that goes on; of one that waits for its start, only that; of one between two steps, only the next step.
    #[must_use]
    pub fn of(gate: Gate, canary: &Value) -> Self {
        let phase = phase(canary);
        let steps = gate == Gate::Advance;
        Self {
            revision: revision(canary).map(str::to_owned),
            since: since(canary).map(str::to_owned),
            phase: (steps && phase == Some("Waiting")).then(|| "Waiting".to_owned()),
            weight: (steps && phase == Some("Progressing")).then(|| weight(canary)),
        }
    }

    fn is_now(&self, canary: &Value) -> bool {
        self.revision.as_deref() == revision(canary)
            && self.since.as_deref() == since(canary)
            && self
                .phase
                .as_ref()
                .is_none_or(|p| Some(p.as_str()) == phase(canary))
            && self.weight.is_none_or(|w| w == weight(canary))
    }
}

fn revision(canary: &Value) -> Option<&str> {
    canary.str_at("/status/lastAppliedSpec")
}

fn phase(canary: &Value) -> Option<&str> {
    canary.str_at("/status/phase")
}

fn weight(canary: &Value) -> i64 {
    canary.int_at("/status/canaryWeight").unwrap_or(0)
}

fn since(canary: &Value) -> Option<&str> {
    canary
        .array_at("/status/conditions")
        .iter()
        .find(|condition| condition["type"] == "Promoted")?
        .str_at("/lastTransitionTime")
}

/// How a webhook that holds a run is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// It asks a gate of ours: `promote` opens it.
    Here,
    /// It asks Flagger's load tester: a POST to this address opens it.
    At(String),
    /// Where it asks; nothing more is known.
    There,
}

/// How the confirming webhook of this name is opened.
#[must_use]
pub fn opened(canary: &Value, name: &str, cluster: &str) -> Opened {
    let all = canary.array_at("/spec/analysis/webhooks").iter();
    let mut named = all.filter(|hook| {
        let kind = hook.str_at("/type").unwrap_or_default();
        hook.str_at("/name") == Some(name) && kind.starts_with("confirm-")
    });
    let Some(url) = named.next().and_then(|hook| hook.str_at("/url")) else {
        return Opened::There;
    };
    if asks(url, Gate::Advance, cluster) {
        return Opened::Here;
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return Opened::There;
    };
    // Without the user, whose password is nobody's business.
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = host.rsplit('@').next().unwrap_or_default();
    if path.trim_end_matches('/') == "gate/check" {
        Opened::At(format!("{scheme}://{host}/gate/open"))
    } else {
        Opened::There
    }
}

/// The Canary's hooks of this type, and which of them ask `gate` of ours. The server's own name is not looked at: it has many.
#[must_use]
pub fn hooks<'a>(canary: &'a Value, of_type: &str, gate: Gate, cluster: &str) -> Vec<HookRef<'a>> {
    canary
        .array_at("/spec/analysis/webhooks")
        .iter()
        .filter(|hook| hook.str_at("/type") == Some(of_type))
        .map(|hook| HookRef {
            name: hook.str_at("/name").unwrap_or_default(),
            ours: hook
                .str_at("/url")
                .is_some_and(|url| asks(url, gate, cluster)),
        })
        .collect()
}

/// `http://HOST/.../gate/CLUSTER/check`, with the cluster's name percent-encoded.
fn asks(url: &str, gate: Gate, cluster: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else {
        return false;
    };
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let Some((_host, path)) = path.split_once('/') else {
        return false;
    };
    let mut parts = path.trim_end_matches('/').rsplit('/');
    let same = |part: Option<&str>, wanted: &str| {
        part.is_some_and(|part| percent_decode_str(part).decode_utf8_lossy() == wanted)
    };
    same(parts.next(), "check") && same(parts.next(), cluster) && same(parts.next(), gate.segment())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const AT: &str = "2026-11-30T21:00:00Z";

    fn canary(phase: &str, revision: &str, since: &str, weight: i64) -> Value {
        json!({"status": {
            "phase": phase, "lastAppliedSpec": revision, "canaryWeight": weight,
            "conditions": [
                {"type": "Accepted", "lastTransitionTime": "x"},
                {"type": "Promoted", "lastTransitionTime": since},
            ],
        }})
    }

    fn with(mut canary: Value, state: &GateState) -> Value {
        canary["metadata"]["annotations"][names::GATE_STATE] =
            serde_json::to_string(state).unwrap().into();
        canary
    }

    fn changed(gate: Gate, change: Change) -> GateState {
        GateState::default().changed(gate, change, Some("alice"), AT.to_owned())
    }

    #[test]
    fn a_gate_is_closed_until_it_is_opened_and_again_when_it_is_closed() {
        let plain = canary("Progressing", "a", "1", 10);
        assert!(!GateState::of(&plain).is_open(Gate::Advance, &plain));
        assert!(!GateState::of(&plain).is_open(Gate::Rollback, &plain));
        let open = changed(Gate::Advance, Change::Open);
        assert_eq!(
            serde_json::to_string(&open).unwrap(),
            r#"{"gate":"open","rollback":"closed","by":"alice","at":"2026-11-30T21:00:00Z"}"#
        );
        let canary = with(plain, &open);
        assert!(GateState::of(&canary).is_open(Gate::Advance, &canary));
        assert!(!GateState::of(&canary).is_open(Gate::Rollback, &canary));
        assert!(open.is(Gate::Advance, &Change::Open));
        assert!(!open.is(Gate::Rollback, &Change::Open));
        let closed = open.changed(Gate::Advance, Change::Close, None, AT.to_owned());
        assert!(!closed.is_open(Gate::Advance, &canary));
    }

    #[test]
    fn what_cannot_be_read_is_closed() {
        for text in ["", "open", "[]", r#"{"gate":"ajar"}"#] {
            let canary = json!({"metadata": {"annotations": {"canary-mcp.dev/gate-state": text}}});
            assert!(
                !GateState::of(&canary).is_open(Gate::Advance, &canary),
                "{text}"
            );
            assert!(
                !GateState::of(&canary).is_open(Gate::Rollback, &canary),
                "{text}"
            );
        }
    }

    /// The phases and weights that Flagger writes while one rollout goes on, and then the next.
    #[test]
    fn an_approval_is_for_what_was_seen() {
        let waiting = canary("Waiting", "old", "2", 0);
        let first = canary("Progressing", "new", "2", 10);
        let second = canary("Progressing", "new", "2", 20);
        let held = canary("WaitingPromotion", "new", "2", 0);
        let done = canary("Succeeded", "new", "3", 0);
        let next = canary("WaitingPromotion", "newer", "4", 0);
        let again = canary("WaitingPromotion", "new", "4", 0);
        let all = [&waiting, &first, &second, &held, &done, &next, &again];
        for (seen, open) in [
            (&waiting, [true, false, false, false, false, false, false]),
            (&first, [false, true, false, false, false, false, false]),
            (&held, [false, true, true, true, false, false, false]),
        ] {
            let state = changed(
                Gate::Advance,
                Change::OpenFor(Bound::of(Gate::Advance, seen)),
            );
            let state = GateState::of(&with(json!({}), &state));
            let now = all.map(|canary| state.is_open(Gate::Advance, canary));
            assert_eq!(now, open, "{seen}");
        }
        let state = changed(
            Gate::Rollback,
            Change::OpenFor(Bound::of(Gate::Rollback, &first)),
        );
        let now = all.map(|canary| state.is_open(Gate::Rollback, canary));
        assert_eq!(now, [false, true, true, true, false, false, false]);
    }

    #[test]
    fn a_hook_of_ours_is_known_by_its_path() {
        for (url, ours) in [
            ("http://canary-mcp.canary-mcp-system/gate/prod/check", true),
            (
                "https://u:t@mcp.example.com:8443/x/gate/prod/check/?a=b",
                true,
            ),
            ("http://canary-mcp/gate/prod/approve", false),
            ("http://canary-mcp/gate/staging/check", false),
            ("http://canary-mcp/rollback/prod/check", false),
            ("http://flagger-loadtester.test/gate/check", false),
            ("http://gate/prod/check", false),
            ("gate/prod/check", false),
        ] {
            assert_eq!(asks(url, Gate::Advance, "prod"), ours, "{url}");
        }
        assert!(asks(
            "http://a/gate/arn:aws:eks:eu-west-1:1:cluster%2Fa/check",
            Gate::Advance,
            "arn:aws:eks:eu-west-1:1:cluster/a"
        ));
        let canary = json!({"spec": {"analysis": {"webhooks": [
            {"name": "a", "type": "confirm-promotion", "url": "http://x/gate/prod/check"},
            {"name": "b", "type": "confirm-promotion", "url": "http://x/approve"},
            {"name": "c", "type": "confirm-rollout", "url": "http://x/gate/prod/check"},
            {"name": "d", "url": "http://x/gate/prod/check"},
        ]}}});
        assert_eq!(
            hooks(&canary, "confirm-promotion", Gate::Advance, "prod"),
            [
                HookRef {
                    name: "a",
                    ours: true
                },
                HookRef {
                    name: "b",
                    ours: false
                }
            ]
        );
    }

    #[test]
    fn what_opens_a_hook_follows_from_its_url_and_tells_no_password() {
        let canary = |url: &str| {
            json!({"spec": {"analysis": {"webhooks": [
                {"name": "ask", "type": "rollout", "url": "http://x/gate/prod/check"},
                {"name": "ask", "type": "confirm-promotion", "url": url},
            ]}}})
        };
        for (url, expected) in [
            ("http://canary-mcp/gate/prod/check", Opened::Here),
            (
                "http://a:secret@flagger-loadtester.test/gate/check",
                Opened::At("http://flagger-loadtester.test/gate/open".to_owned()),
            ),
            ("http://flagger-loadtester.test/gate/halt", Opened::There),
            ("https://hooks.example/T0/secret", Opened::There),
        ] {
            assert_eq!(opened(&canary(url), "ask", "prod"), expected, "{url}");
        }
        assert_eq!(opened(&canary("http://x"), "other", "prod"), Opened::There);
    }
}
