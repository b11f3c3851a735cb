//! The replicas of the engine see each other in the home cluster: each keeps a Lease there that says it lives, under one label, and
//! watches those of the others.
//!
//! Who lives is judged by our own monotonic clock, as with the Lease of a cluster: whose Lease has not changed for its duration is dead. Our
//! own Lease is judged the same way, by the same watch; so it also says whether the watch still shows anything. Another is dead only when
//! ours has been seen to change that long after its last change, or else a home that is lost would kill everybody but ourselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Cluster, Scope, Watched,
    clock::Clock,
    error::{Error, ErrorKind},
    lease::{CALL, Change, DURATION, RENEW, RETRY, holder, lease},
    rendezvous,
    sharing::Members,
};
use crate::api::{
    names::{MANAGER, MEMBER},
    objects::{LEASE, Object, ObjectExt, Ref},
};

/// How long to wait for the first sight of the others before this process goes on without them.
const JOIN_WITHIN: Duration = Duration::from_secs(5);
/// A Lease of a member that has been dead for this long is removed.
const REMEMBER: Duration = Duration::from_secs(600);

/// Keeps this process among the members until it leaves or is dropped. Dropped, it is dead to the others when its Lease runs out.
pub struct Membership {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// The task behind a [`Membership`].
struct Member {
    home: Cluster,
    identity: String,
    of: Ref,
    clock: Clock,
    joined: Instant,
    members: watch::Sender<Members>,
    watched: Watched,
    /// Our Lease as we wrote it last.
    mine: Option<Object>,
    /// Every Lease of a member by name, and since when it has been as it is.
    seen: BTreeMap<String, (Object, Instant)>,
}

impl Membership {
    /// Joins the members in the home cluster; `members` follows who they are.
    #[must_use]
    pub fn join(
        home: &Cluster,
        identity: &str,
        namespace: &str,
        members: &watch::Sender<Members>,
    ) -> Self {
        members.send_if_modified(|now| {
            // Who was told something of the others already goes on with that until it is known better.
            let new = *now == Members::NoHome;
            if new {
                *now = Members::Joining;
            }
            new
        });
        let stop = CancellationToken::new();
        let scope = Scope {
            namespace: Some(namespace.to_owned()),
            labels: Some(format!("{MEMBER}=true")),
            ..Scope::default()
        };
        let member = Member {
            home: home.clone(),
            of: Ref {
                kind: LEASE,
                namespace: namespace.to_owned(),
                // An identity has characters that a name must not have.
                name: format!("{MANAGER}-{:016x}", rendezvous::hash(&[identity])),
            },
            identity: identity.to_owned(),
            clock: Clock::real(),
            joined: Instant::now(),
            members: members.clone(),
            watched: home.watch(&LEASE, scope),
            mine: None,
            seen: BTreeMap::new(),
        };
        Self {
            task: tokio::spawn(member.run(stop.clone())),
            stop,
        }
    }

    /// Leaves, so that the others share out at once what this process leads.
    pub async fn leave(mut self) {
        self.stop.cancel();
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the task of the membership has failed");
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Member {
    async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.watched.subscribe();
        let mut renew_at = Instant::now();
        loop {
            if Instant::now() >= renew_at {
                let pause = self.renew().await;
                renew_at = Instant::now() + pause;
            }
            changes.mark_unchanged();
            let judge_at = self.judge();
            self.bury().await;
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(renew_at.min(judge_at)) => {}
                Ok(()) = changes.changed() => {}
            }
        }
        self.retire().await;
    }

    /// Says that we live; how long to pause.
    async fn renew(&mut self) -> Duration {
        // What was there already is from before the home was known anew.
        let shown = || self.watched.get(&self.of.namespace, &self.of.name);
        let written = if let Some(known) = self.mine.take().or_else(shown) {
            let renewed = self.presence(&known, Change::Renewed);
            self.home.replace(&self.of, &renewed, CALL).await
        } else {
            let new = self.presence(&Value::Null, Change::Taken(0));
            self.home.post(&self.of, &new, CALL).await
        };
        match written {
            Ok(mine) => {
                self.mine = Some(mine);
                RENEW
            }
            Err(error) => self.not_renewed(&error).await,
        }
    }

    async fn not_renewed(&mut self, error: &Error) -> Duration {
        tracing::debug!(cluster.name = %self.home.name(), error = error.report(), "the presence of this process could not be renewed yet");
        // There is one that the watch has not shown yet. In any other case it is taken from the watch, or made anew.
        if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::AlreadyExists) {
            let read = tokio::time::timeout(CALL, self.home.get(&self.of)).await;
            self.mine = read.ok().and_then(Result::ok).flatten();
        }
        if matches!(&*self.members.borrow(), Members::Unknown(_)) {
            RENEW
        } else {
            RETRY
        }
    }

    /// Judges who lives; when to judge again whatever happens.
    fn judge(&mut self) -> Instant {
        let now = Instant::now();
        let leases = self.watched.list();
        let names: BTreeSet<&str> = leases.iter().map(|lease| lease.name()).collect();
        self.seen.retain(|name, _| names.contains(name.as_str()));
        for lease in &leases {
            let known = self.seen.get(lease.name());
            if known.is_none_or(|(known, _)| known["spec"] != lease["spec"]) {
                let seen = (Arc::clone(lease), now);
                self.seen.insert(lease.name().to_owned(), seen);
            }
        }
        let own = self.seen.get(&self.of.name).map(|(_, since)| *since);
        let own = own.filter(|since| now < *since + DURATION);
        let Some(own) = own else {
            let patience = self.joined + JOIN_WITHIN;
            if now < patience {
                return patience;
            }
            let why = self
                .watched
                .health()
                .unwrap_or_else(|| "the presence of this process is not renewed there".to_owned());
            self.tell(&Members::Unknown(format!("{}: {why}", self.home.name())));
            return now + DURATION;
        };
        let lives = |since: Instant| own.saturating_duration_since(since) < DURATION;
        let live = self.seen.values().filter(|(_, since)| lives(*since));
        let live = live
            .filter_map(|(lease, _)| holder(lease))
            .map(str::to_owned);
        self.tell(&Members::Live(
            live.chain([self.identity.clone()]).collect(),
        ));
        own + DURATION
    }

    /// Removes one Lease whose member has been dead for long. Somebody else may do so first.
    async fn bury(&mut self) {
        let Some((_, own)) = self.seen.get(&self.of.name) else {
            return;
        };
        let long_dead = |since: &Instant| own.saturating_duration_since(*since) >= REMEMBER;
        let dead = self.seen.values().find(|(_, since)| long_dead(since));
        let Some(lease) = dead.map(|(lease, _)| Arc::clone(lease)) else {
            return;
        };
        let of = Ref {
            name: lease.name().to_owned(),
            ..self.of.clone()
        };
        match self.home.remove(&of, &lease, CALL).await {
            Ok(_) => {
                tracing::info!(cluster.name = %self.home.name(), member = holder(&lease), "a replica is dead for long, its presence is removed");
            }
            Err(error) => {
                tracing::debug!(cluster.name = %self.home.name(), error = error.report(), "the presence of a dead replica could not be removed");
            }
        }
        // Seen anew, if it is still there.
        self.seen.remove(lease.name());
    }

    async fn retire(&mut self) {
        let shown = || self.watched.get(&self.of.namespace, &self.of.name);
        let Some(mine) = self.mine.take().or_else(shown) else {
            return;
        };
        if let Err(error) = self.home.remove(&self.of, &mine, CALL).await {
            tracing::warn!(cluster.name = %self.home.name(), error = error.report(), "the presence of this process could not be removed, it expires by itself");
        }
    }

    fn presence(&self, from: &Value, change: Change) -> Value {
        let mut presence = lease(&self.of, from, &self.identity, self.clock.now(), change);
        presence["metadata"]["labels"] = json!({MEMBER: "true"});
        presence
    }

    /// Tells a change, and only a change.
    fn tell(&self, members: &Members) {
        let changed = self.members.send_if_modified(|old| {
            let changed = *old != *members;
            if changed {
                old.clone_from(members);
            }
            changed
        });
        if !changed {
            return;
        }
        match members {
            Members::Unknown(why) => tracing::warn!(
                "the other replicas cannot be seen in the home cluster, so everybody keeps what it leads: {why}"
            ),
            Members::Live(live) => {
                let live: Vec<&str> = live.iter().map(String::as_str).collect();
                tracing::info!(members = live.join(", "), "the replicas of the engine");
            }
            Members::NoHome | Members::Joining => {}
        }
    }
}
