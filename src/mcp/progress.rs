//! Progress messages, and following a rollout for the length of a call.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use rmcp::{RoleServer, model::ProgressNotificationParam, service::RequestContext};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::words::{between, told};
use crate::{api::view::RolloutView, engine::control::Follow};

/// Clients known to keep a call open for as long as progress comes, by the name in `_meta`'s `clientInfo`. Everybody else is answered
/// before the shortest limit that is known (60 s).
const PATIENT_CLIENTS: [&str; 1] = ["claude-code"];
/// How long a call waits by default: well under 60 s.
const SHORT_WAIT: Duration = Duration::from_secs(50);
/// How long a call may wait at most.
pub(in crate::mcp) const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// The longest silence. Gateways and clients cut what is silent for 30 s or more.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A client that does not read loses messages rather than holding the tool up.
const SEND_LIMIT: Duration = Duration::from_secs(5);

type Voice = Box<dyn Fn(f64, String) -> BoxFuture<'static, ()> + Send + Sync>;

/// Sends the progress messages of one call, where the caller wants them.
pub(in crate::mcp) struct Progress {
    send: Option<Voice>,
    sent: u32,
}

impl Progress {
    /// For the caller of `context`: silent without a `progressToken`.
    pub(in crate::mcp) fn of(context: &RequestContext<RoleServer>) -> Self {
        let Some(token) = context.meta.get_progress_token() else {
            return Self::silent();
        };
        let peer = context.peer.clone();
        Self::to(Box::new(move |progress, message| {
            let peer = peer.clone();
            let param =
                ProgressNotificationParam::new(token.clone(), progress).with_message(message);
            async move {
                // Who does not listen any more is told nothing; the call's end is decided elsewhere.
                let _ = timeout(SEND_LIMIT, peer.notify_progress(param)).await;
            }
            .boxed()
        }))
    }

    fn silent() -> Self {
        Self {
            send: None,
            sent: 0,
        }
    }

    fn to(send: Voice) -> Self {
        Self {
            send: Some(send),
            sent: 0,
        }
    }

    /// One message. The number grows by one each time, as the protocol wants it to grow.
    pub(in crate::mcp) async fn say(&mut self, message: String) {
        if let Some(send) = &self.send {
            send(f64::from(self.sent), message).await;
            self.sent = self.sent.saturating_add(1);
        }
    }

    /// Waits for `work`, saying `still` whenever it takes long.
    pub(in crate::mcp) async fn during<T>(
        &mut self,
        work: impl Future<Output = T>,
        still: &str,
    ) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            match timeout(HEARTBEAT, work.as_mut()).await {
                Ok(done) => return done,
                Err(_) => self.say(still.to_owned()).await,
            }
        }
    }
}

/// How long a call that starts a rollout waits: what it asks for, else until the end for a client that is known to wait, else 50 s.
pub(in crate::mcp) fn patience(
    asked: Option<Duration>,
    context: &RequestContext<RoleServer>,
) -> Duration {
    let client = context.meta.client_info().map(|info| info.name);
    let heard = context.meta.get_progress_token().is_some();
    asked.unwrap_or_else(|| default_patience(heard, client.as_deref()))
}

fn default_patience(heard: bool, client: Option<&str>) -> Duration {
    if heard && client.is_some_and(|name| PATIENT_CLIENTS.contains(&name)) {
        LONGEST_WAIT
    } else {
        SHORT_WAIT
    }
}

/// What ends the following of a rollout, beside the rollout.
pub(in crate::mcp) struct Limits {
    /// How long to follow.
    pub(in crate::mcp) patience: Duration,
    /// The caller has gone or has cancelled.
    pub(in crate::mcp) cancelled: CancellationToken,
    /// This process is about to end.
    pub(in crate::mcp) draining: CancellationToken,
}

/// Why following ended. The rollout itself goes on in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mcp) enum Ended {
    /// What was waited for is there.
    Reached,
    /// The time is up.
    TimeUp,
    /// The caller has gone; nobody reads the result.
    Cancelled,
    /// This process is about to end.
    Draining,
    /// The Canary is gone, or cannot be watched any more.
    Lost,
}

/// Follows a rollout until `reached`, with one message for each change that a person wants to hear of, and a sign of life in between.
/// `last` is what the caller knows already; the newest view comes back in it.
pub(in crate::mcp) async fn follow(
    follow: &mut Follow,
    last: &mut Option<Arc<RolloutView>>,
    reached: impl Fn(&RolloutView) -> bool,
    limits: &Limits,
    progress: &mut Progress,
) -> Ended {
    let deadline = Instant::now() + limits.patience;
    let mut beat = Instant::now() + HEARTBEAT;
    loop {
        if last.as_deref().is_some_and(&reached) {
            return Ended::Reached;
        }
        let silent_until = beat;
        tokio::select! {
            biased;
            () = limits.cancelled.cancelled() => return Ended::Cancelled,
            () = limits.draining.cancelled() => return Ended::Draining,
            () = sleep_until(deadline) => return Ended::TimeUp,
            view = follow.next() => {
                let Some(view) = view else { return Ended::Lost };
                let news = last.as_deref().is_none_or(|last| differ(last, &view));
                if news {
                    for step in last.as_deref().map(|last| between(last, &view)).unwrap_or_default() {
                        progress.say(step).await;
                    }
                    progress.say(told(&view)).await;
                    beat = Instant::now() + HEARTBEAT;
                }
                *last = Some(view);
            }
            () = sleep_until(silent_until) => {
                progress.say(still(last.as_deref())).await;
                beat = Instant::now() + HEARTBEAT;
            }
        }
    }
}

/// A person wants to hear of it. Values that change at each analysis at the same step are not news.
fn differ(a: &RolloutView, b: &RolloutView) -> bool {
    let news = |view: &RolloutView| {
        (
            view.run.clone(),
            view.phase,
            view.weight.written,
            view.step.n,
            view.failed_checks,
            view.waiting_for
                .as_ref()
                .map(|waiting| (waiting.what.clone(), waiting.how.clone())),
        )
    };
    news(a) != news(b)
}

/// Nothing has changed. The next check is told as a time of the cluster's clock, which need not run as fast as ours.
fn still(view: Option<&RolloutView>) -> String {
    let Some(view) = view else {
        return "still waiting for the first look at the rollout".to_owned();
    };
    match &view.next_check_at {
        Some(at) => format!("still {}, next check at {at}", told(view)),
        None => format!("still {}", told(view)),
    }
}

#[cfg(test)]
pub(in crate::mcp) mod tests;
