//! What a genuine cluster's Canary went through.

use std::{
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::Duration,
};

use canary_mcp::api::objects::{Object, ObjectExt};
use tokio::sync::watch;

/// What is waited for must come within this, in real time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Every state that the Canary was in, and how far a test has come in them.
#[derive(Default)]
pub(super) struct History {
    states: Mutex<Vec<Object>>,
    length: watch::Sender<usize>,
    pub(super) cursor: AtomicUsize,
}

// === impl History ===

impl History {
    pub(super) fn push(&self, canary: Object) {
        let mut states = self.states.lock().unwrap();
        // A list that begins anew repeats the last one.
        if states
            .last()
            .is_none_or(|last| last.resource_version() != canary.resource_version())
        {
            states.push(canary);
        }
        let length = states.len();
        self.length.send_replace(length);
    }

    /// The state at this place, as soon as there is one.
    pub(super) async fn at(&self, place: usize) -> Object {
        let mut length = self.length.subscribe();
        let there = tokio::time::timeout(PATIENCE, length.wait_for(|n| *n > place)).await;
        let states = self.states.lock().unwrap();
        assert!(
            there.is_ok(),
            "no news of the Canary for {PATIENCE:?}: {:#?}",
            states.last()
        );
        Arc::clone(&states[place])
    }

    /// The place of this version.
    pub(super) async fn place_of(&self, version: &str) -> usize {
        for place in 0.. {
            if self.at(place).await.resource_version() == version {
                return place;
            }
        }
        unreachable!("places do not end")
    }
}
