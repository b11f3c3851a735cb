//! The end of a Canary whose target is given back (`spec.revertOnDeletion`): a finalizer holds it until the target serves as it did before there
//! was a Canary. Only then the primary may go, which Kubernetes takes away with its owner.

use super::{
    Act, Turn,
    effect::{Effect, Tell},
    facts::{Answers, Seen},
    plan::Plan,
    state::{Phase, State},
};

/// The next step of a Canary that is being deleted and held by its finalizer. Pure, as [`step`](super::step).
///
/// The target comes up first, then the apex and the route lead to it, then the route settles, and the finalizer goes last. Whatever was done is
/// seen in the world, so a crash repeats nothing but what is missing.
#[must_use]
pub fn step(plan: &Plan, state: &State, seen: &Seen) -> Act {
    let turn = Turn {
        plan,
        state,
        seen,
        answers: &Answers::default(),
    };
    let mut act = turn.deleted();
    turn.stamp(&mut act.next);
    act
}

impl Turn<'_> {
    fn deleted(&self) -> Act {
        let mut act = self.rest();
        if !self.plan.revert_on_deletion {
            // Nobody wants it back any more. Flagger.
            act.effects.push(Effect::Finalizer(false));
            return act;
        }
        if self.state.phase != Phase::Terminating {
            act.next.phase = Phase::Terminating;
            act.next.next_check_at = None;
            act.opened();
            let told = format!("Terminating canary {}", self.who());
            return act.again().tell(Tell::normal(told));
        }
        act.effects.extend(self.target_up());
        // A target that is gone has nothing to wait for: what was taken over is still not ours.
        let serves = self
            .target()
            .is_none_or(|target| target.ready(self.plan.canary_ready));
        if !act.effects.is_empty() || !serves {
            return act;
        }
        if !self.seen.given_back {
            act.effects.push(Effect::GiveBack);
            act.next.next_check_at = None;
            return act.again();
        }
        let Some(due) = self.state.next_check_at else {
            act.next.next_check_at = Some(self.seen.now.plus(self.plan.settle));
            return act.again();
        };
        if self.seen.now < due {
            return act.until(due);
        }
        act.effects.push(Effect::Finalizer(false));
        act.tell(Tell::normal(format!("Terminated canary {}", self.who())))
    }

    /// What brings the target up: its autoscaler works again, and it has as many replicas as the primary. One that its autoscaler sizes is
    /// only brought up from zero.
    fn target_up(&self) -> Vec<Effect> {
        let Some(target) = self.target() else {
            return Vec::new();
        };
        let mut effects = Vec::new();
        if self.seen.scaler_paused == Some(true) {
            effects.push(Effect::ResumeScaler);
        }
        let primary = self.seen.primary.as_ref().map_or(1, |p| p.desired.max(1));
        let enough = if self.plan.scaler.is_some() {
            1
        } else {
            primary
        };
        if target.desired < enough {
            effects.push(Effect::ScaleUp(Some(primary)));
        }
        effects
    }

    /// The finalizer stands for as long as the target is to be given back at the end.
    pub(super) fn finalizer(&self) -> Option<Act> {
        let wanted = self.plan.revert_on_deletion;
        (self.seen.finalizer != wanted).then(|| {
            let mut act = self.rest();
            act.effects.push(Effect::Finalizer(wanted));
            act
        })
    }
}
