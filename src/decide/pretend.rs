//! [`Pretended`]: a world that obeys without being told. Effects are applied to what is seen and to nothing else.
//!
//! A forecast lets the machine drive such a world for as long as a run takes; a dry run lets it drive one beside the real world, from which
//! everything comes that nobody has pretended to change.

use super::{
    effect::{Copied, Effect},
    facts::{Moment, Seen, Workload},
    state::Run,
};

/// What the pods of such a world are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ideal {
    /// Milliseconds from a scale-up or a template write until all pods of that copy are ready.
    pub ready_after: i64,
    /// The canary's replicas once it is scaled up.
    pub replicas: u32,
}

/// What is seen, with the effects that nobody has carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Pretended {
    /// What the machine decides on.
    pub seen: Seen,
    ideal: Ideal,
    /// When the pods of a copy are up that is coming up.
    pub(super) canary_up: Option<Moment>,
    pub(super) primary_up: Option<Moment>,
    /// The revisions on the primary, now and before that, as far as they were written here.
    promoted: Option<String>,
    previous: Option<String>,
}

impl Pretended {
    /// The world as it is.
    #[must_use]
    pub fn new(seen: Seen, ideal: Ideal) -> Self {
        Self {
            seen,
            ideal,
            canary_up: None,
            primary_up: None,
            promoted: None,
            previous: None,
        }
    }

    /// When pods come up next.
    #[must_use]
    pub fn next(&self) -> Option<Moment> {
        [self.canary_up, self.primary_up]
            .into_iter()
            .flatten()
            .min()
    }

    /// It is so late now, and what is due has come up.
    pub fn pass(&mut self, now: Moment) {
        self.seen.now = self.seen.now.max(now);
        let now = self.seen.now;
        for (up, copy) in [
            (&mut self.canary_up, &mut self.seen.target),
            (&mut self.primary_up, &mut self.seen.primary),
        ] {
            if let (Some(at), Some(copy)) = (*up, copy)
                && at <= now
            {
                *up = None;
                all_up(copy);
            }
        }
    }

    /// Another run begins: what is pinned and copied so far is of the run before.
    pub fn begins(&mut self) {
        self.seen.pinned = false;
        self.seen.primary_has_run = self.seen.target_equals_primary;
        self.seen.primary_has_previous = true;
    }

    /// One effect is carried out, of this run.
    pub fn apply(&mut self, run: Option<&Run>, effect: Effect) {
        let seen = &mut self.seen;
        let up = seen.now.plus(self.ideal.ready_after);
        match effect {
            Effect::Pin => seen.pinned = true,
            Effect::Services => seen.services_ready = true,
            Effect::CreatePrimary => {
                seen.primary.clone_from(&seen.target);
                // The first one is made from the target, a lost one from what is promoted.
                let live = seen.target.as_ref().map(|t| &t.revision);
                let first = run.filter(|r| r.previous.is_none() && live == Some(&r.revision));
                if let Some(first) = first {
                    self.promoted = Some(first.revision.clone());
                    seen.target_equals_primary = true;
                    seen.primary_has_run = true;
                }
                if let Some(primary) = &mut seen.primary {
                    primary.desired = primary.desired.max(1);
                }
                self.primary_up = Some(up);
            }
            Effect::CreatePrimaryScaler => seen.primary_scaler_ready = true,
            Effect::Apex => seen.apex_on_primary = true,
            Effect::Route => seen.route_ready = true,
            Effect::Traffic(traffic) => seen.traffic = Some(traffic),
            Effect::PauseScaler => seen.scaler_paused = Some(true),
            Effect::ResumeScaler => seen.scaler_paused = Some(false),
            Effect::ScaleUp(wanted) => {
                if let Some(target) = &mut seen.target {
                    target.desired = wanted.unwrap_or(self.ideal.replicas).max(1);
                    self.canary_up = Some(up);
                }
            }
            Effect::ScaleToZero => {
                self.canary_up = None;
                seen.target.iter_mut().for_each(none_up);
            }
            Effect::Primary(copied) => {
                let promoted = copied == Copied::Promoted;
                seen.primary_has_run = promoted;
                seen.primary_has_previous = !promoted;
                // The target may have been edited since it was pinned.
                let pinned = run.map(|r| r.revision.clone());
                let live = seen.target.as_ref().map(|t| t.revision.as_str());
                seen.target_equals_primary = promoted && pinned.as_deref() == live;
                if promoted {
                    self.previous = std::mem::replace(&mut self.promoted, pinned);
                } else {
                    self.promoted = self.previous.take();
                }
                if let Some(primary) = &mut seen.primary {
                    primary.updated = 0;
                    self.primary_up = Some(up);
                }
            }
            Effect::SyncPrimaryScaler => seen.primary_scaler_synced = true,
            Effect::Finalizer(on) => seen.finalizer = on,
            Effect::GiveBack => seen.given_back = true,
            // Nobody's wish is carried out here.
            Effect::Target | Effect::TakeOff(_) => {}
        }
    }

    /// The real world as it is now. What was pretended of it stays; wishes are for whoever carries them out.
    pub fn refresh(&mut self, live: &Seen) {
        self.pass(live.now);
        let own = &mut self.seen;
        own.led_since = live.led_since;
        own.next_run.clone_from(&live.next_run);
        own.slot = live.slot.clone();
        own.target_writer.clone_from(&live.target_writer);
        own.request = None;
        own.requested_kept = false;
        own.skip_annotation = None;
        own.reset_annotation = None;
        own.route_pending = None;
        own.route_writer = None;
        // A plan that has got an autoscaler meanwhile, or lost it.
        if own.scaler_paused.is_some() != live.scaler_paused.is_some() {
            own.scaler_paused = live.scaler_paused;
        }
        own.target = match (own.target.take(), live.target.as_ref()) {
            (_, None) => None,
            (None, Some(live)) => Some(live.clone()),
            (Some(own), Some(live)) => Some(as_it_stands(own, live)),
        };
        if let (Some(own), Some(live), None) = (&mut own.primary, &live.primary, self.primary_up) {
            let revision = std::mem::take(&mut own.revision);
            *own = Workload {
                revision,
                ..live.clone()
            };
        }
        let revision = own.target.as_ref().map(|t| &t.revision);
        own.target_equals_primary = match &self.promoted {
            Some(promoted) => revision == Some(promoted),
            None => live.target_equals_primary,
        };
    }
}

/// The target as it was pretended to be, with the template and the pods that it has. Of a target that is at zero, pods come up as they do
/// in the pretended world.
fn as_it_stands(own: Workload, live: &Workload) -> Workload {
    let mut target = Workload {
        revision: live.revision.clone(),
        ..own
    };
    if target.desired == 0 {
        none_up(&mut target);
        return target;
    }
    if live.desired == 0 {
        return target;
    }
    target.crash.clone_from(&live.crash);
    target.deadline_exceeded = live.deadline_exceeded;
    let complete = live.observed
        && live.updated >= live.desired
        && live.replicas <= live.updated
        && live.available >= live.desired;
    if complete {
        all_up(&mut target);
        return target;
    }
    target.observed = live.observed;
    target.updated = live.updated;
    target.replicas = live.replicas;
    target.available = live.available;
    // No Service of the canary's own may be there, so what is available serves.
    target.endpoints = live.available;
    target
}

fn all_up(copy: &mut Workload) {
    copy.observed = true;
    copy.updated = copy.desired;
    copy.replicas = copy.desired;
    copy.available = copy.desired;
    copy.endpoints = copy.desired;
}

fn none_up(copy: &mut Workload) {
    *copy = Workload {
        revision: std::mem::take(&mut copy.revision),
        observed: true,
        ..Workload::default()
    };
}
