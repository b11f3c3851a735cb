//! Event hooks: what people are told, told to webhooks too. Queued, bounded, in order, and never in the way of a rollout.

use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{
    Settings, Shared,
    hooks::{Caller, Facts},
    reach::Namer,
};
use crate::{
    cluster::{Cluster, lease::Held},
    decide::{
        effect::Tell,
        facts::Moment,
        plan::{Hook, HookKind, Plan},
    },
    outbound::hooks,
    telemetry::EventHook,
};

/// Events of one Canary that may wait for a receiver that is slow; more than that are dropped.
const QUEUE: usize = 64;
/// How long the installation's own receiver may take, in milliseconds of real time (Flagger: 10 s, and no second attempt).
const TIMEOUT: i64 = 10_000;
/// Name of that hook in logs and keys; Flagger's name for the setting.
const GLOBAL: &str = "event-webhook";

/// The queue of one Canary. Its task is there while there is something to send.
#[derive(Default)]
pub(super) struct EventHooks {
    queue: Option<mpsc::Sender<Event>>,
    /// Events so far: two of one moment are not the same.
    count: u64,
}

/// What happened, and who is told.
struct Event {
    hooks: Vec<Hook>,
    /// The installation names the hook, no manifest.
    global: bool,
    facts: Facts,
    tell: Tell,
    at: Moment,
    /// End of the `Idempotency-Key`.
    n: String,
}

/// Whom an event of this Canary is for: its own event hooks that want it, or the installation's where it has none at all (Flagger).
pub(super) struct Receivers {
    hooks: Vec<Hook>,
    global: bool,
}

impl Receivers {
    /// Those that want this.
    pub(super) fn of(plan: Option<&Plan>, settings: &Settings, tell: &Tell) -> Self {
        let own = plan.iter().flat_map(|plan| plan.hooks(HookKind::Event));
        let own: Vec<&Hook> = own.map(|(_, hook)| hook).collect();
        if own.is_empty() {
            return Self {
                hooks: settings
                    .event_webhook
                    .iter()
                    .map(|url| global(url))
                    .collect(),
                global: true,
            };
        }
        let wants = |hook: &&Hook| hook.events.is_empty() || hook.events.contains(&tell.about);
        Self {
            hooks: own.into_iter().filter(wants).cloned().collect(),
            global: false,
        }
    }

    /// Nobody wants it.
    pub(super) fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }
}

fn global(url: &str) -> Hook {
    Hook {
        name: GLOBAL.to_owned(),
        kind: HookKind::Event,
        url: url.to_owned(),
        timeout: TIMEOUT,
        retries: 0,
        disable_tls: false,
        mute_alert: false,
        metadata: Vec::new(),
        when: Vec::new(),
        events: Vec::new(),
        request: None,
    }
}

impl EventHooks {
    /// Queues an event.
    pub(super) fn send(&mut self, sender: &Sender, receivers: Receivers, facts: Facts, tell: Tell) {
        let at = sender.cluster.clock().now();
        self.count += 1;
        let Receivers { hooks, global } = receivers;
        let event = Event {
            hooks,
            global,
            facts,
            tell,
            at,
            n: format!("{}.{}", at.0, self.count),
        };
        let open = self.queue.take().filter(|queue| !queue.is_closed());
        let queue = open.unwrap_or_else(|| sender.clone().start());
        match queue.try_send(event) {
            Ok(()) => {}
            // Closed: the Lease is lost, and whoever holds it now tells what happens from here on.
            Err(TrySendError::Closed(_)) => return,
            Err(TrySendError::Full(event)) => {
                for hook in &event.hooks {
                    sender.lost(hook, EventHook::Dropped, "too many wait before it");
                }
            }
        }
        self.queue = Some(queue);
    }

    /// Nothing more is about to happen: the task ends when all is sent.
    pub(super) fn let_go(&mut self) {
        self.queue = None;
    }
}

/// What sends the events of a Canary while the Lease is held.
#[derive(Clone)]
pub(super) struct Sender {
    pub(super) shared: Arc<Shared>,
    pub(super) cluster: Cluster,
    pub(super) held: Held,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Sender {
    fn start(self) -> mpsc::Sender<Event> {
        let (queue, mut waiting) = mpsc::channel::<Event>(QUEUE);
        tokio::spawn(async move {
            while let Some(event) = waiting.recv().await {
                if self.held.check().is_err() {
                    return;
                }
                // One that is slow keeps none of the others from this event; all get the next one after it.
                join_all(event.hooks.iter().map(|hook| self.call(&event, hook))).await;
            }
        });
        queue
    }

    async fn call(&self, event: &Event, hook: &Hook) {
        let Event {
            facts, tell, at, n, ..
        } = event;
        let caller = Caller {
            shared: &self.shared,
            cluster: &self.cluster,
            namespace: &self.namespace,
        };
        let namer = if event.global {
            Namer::Flag
        } else {
            Namer::Manifest(&self.namespace)
        };
        let run = facts.payload.run.as_deref().unwrap_or("none");
        let key = format!("{run}/{}/{}/{n}", hook.kind.name(), hook.name);
        let with = |own| hooks::of_event(own, &tell.message, tell.warning, *at);
        match caller.call(hook, namer, facts.clone(), &key, with).await {
            Ok(()) => self.count(EventHook::Sent),
            Err(why) if event.global => {
                let why = without_path(&hook.url, &why);
                self.lost(hook, EventHook::Failed, &why);
            }
            Err(why) => self.lost(hook, EventHook::Failed, &why),
        }
    }

    fn lost(&self, hook: &Hook, outcome: EventHook, why: &str) {
        tracing::warn!(
            cluster = self.cluster.name(),
            canary.namespace = self.namespace,
            canary.name = self.name,
            hook = hook.name,
            "an event did not reach its webhook: {why}"
        );
        self.count(outcome);
    }

    fn count(&self, outcome: EventHook) {
        let (cluster, metrics) = (self.cluster.name(), &self.shared.metrics);
        metrics.event_hook(cluster, outcome);
    }
}

/// The path of the installation's own url is a secret, as chat services have them; a manifest's can be read in the manifest.
fn without_path(url: &str, text: &str) -> String {
    let uri: http::Uri = url.parse().unwrap_or_default();
    match uri.path() {
        "" | "/" => text.to_owned(),
        path => text.replace(path, "/***"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_installations_url_is_not_told() {
        for (url, text, expected) in [
            (
                "https://hooks.example.com/T0/s3cret?x=1",
                "https://hooks.example.com/T0/s3cret gave no answer within 10s",
                "https://hooks.example.com/*** gave no answer within 10s",
            ),
            (
                "https://hooks.example.com",
                "https://hooks.example.com/ cannot be reached: refused",
                "https://hooks.example.com/ cannot be reached: refused",
            ),
        ] {
            assert_eq!(without_path(url, text), expected);
        }
    }
}
