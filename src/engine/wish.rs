//! `promote` and `rollback`: a request on the Canary, and what became of it.

use serde_json::Value;
use uuid::Uuid;

use super::{
    back,
    control::{Acted, Control, ControlError, Wish},
    verify::{annotation, until, write_failed},
};
use crate::{
    api::{
        gate::{self, Opened},
        names,
        objects::{ObjectExt, Objects, Write},
        parse, status,
        time::rfc3339,
    },
    cluster::Cluster,
    decide::{
        facts::{Request, Verb},
        state::{Phase, Stage, State, WaitFor},
    },
};

impl Control {
    /// Puts a request on the Canary and waits until it was acted on.
    ///
    /// # Errors
    /// As [`Control::start`].
    pub async fn wish(&self, wish: &Wish) -> Result<Acted, ControlError> {
        let cluster = self.cluster(&wish.key.cluster)?;
        let objects = self.read(&cluster, &wish.key).await?;
        let state = status::state(&objects.canary, cluster.clock().now());
        let acted = match self.ask_driver(wish, &cluster, &objects.canary).await {
            Some(acted) => acted,
            None => self.ask_engine(wish, &cluster, &objects, &state).await?,
        };
        Ok(self.seen(&wish.key, acted).await)
    }

    async fn ask_engine(
        &self,
        wish: &Wish,
        cluster: &Cluster,
        objects: &Objects,
        state: &State,
    ) -> Result<Acted, ControlError> {
        if let Some(acted) = barred(wish, state, objects) {
            return Ok(acted);
        }
        let to = match &wish.to {
            Some(to) => match back::kept_revision(to, objects, state) {
                Ok(to) => Some(to),
                Err(acted) => return Ok(acted),
            },
            None => match pointless(wish, state) {
                Some(acted) => return Ok(acted),
                None => None,
            },
        };
        if let (Verb::Promote, false, Some(hook)) = (wish.verb, wish.skip, hook(state)) {
            return Ok(self.ask_hook(wish, cluster, objects, hook).await);
        }
        let leaderless = self.leaderless(cluster).await?;
        let again = match wish.verb {
            Verb::Promote => Some("promote"),
            Verb::Rollback => to.is_some().then_some("rollback"),
            Verb::Reset => Some("start_canary"),
        };
        if let (Some(why), Some(again)) = (&leaderless, again) {
            return Ok(Acted::refused(format!("{why}, then call {again} again")));
        }
        let request = Request {
            id: Uuid::new_v4().to_string(),
            verb: wish.verb,
            run: state.run.as_ref().map(|r| r.id.clone()),
            skip: wish.skip,
            to,
            reason: wish.reason.clone(),
            by: wish.by.clone(),
            at: Some(rfc3339(cluster.clock().now())),
        };
        if let Err(error) = cluster.write(&put(objects, &request), None).await {
            return Ok(write_failed(&error));
        }
        let handled = |c: &Value| c.str_at("/status/handledRequest") == Some(request.id.as_str());
        Ok(
            match until(cluster, &wish.key, wish.patience, handled).await {
                Some(canary) => {
                    let now = status::state(&canary, cluster.clock().now());
                    judged(&request, state, &now)
                }
                None => waiting(wish, leaderless.as_deref(), state),
            },
        )
    }

    /// A webhook holds the run: one that asks a gate of ours is opened, of another is said how.
    async fn ask_hook(
        &self,
        wish: &Wish,
        cluster: &Cluster,
        objects: &Objects,
        hook: &str,
    ) -> Acted {
        if gate::opened(&objects.canary, hook, cluster.name()) == Opened::Here {
            return self.open_here(wish, cluster, &objects.canary, hook).await;
        }
        let waiting = self.show(cluster, objects).waiting_for.clone();
        let (what, how) = waiting.map_or_else(Default::default, |w| (w.what, w.how));
        Acted::refused(format!(
            "the run waits for {what}, which promote cannot do: {}",
            how.unwrap_or_default()
        ))
    }
}

/// The webhook that holds the run.
fn hook(state: &State) -> Option<&str> {
    let waiting = state.run.as_ref()?.waiting.as_ref()?;
    waiting.hook.as_deref()
}

/// Why nothing would act on any wish, or not on this one now.
fn barred(wish: &Wish, state: &State, objects: &Objects) -> Option<Acted> {
    if objects.canary["spec"]["suspend"] == Value::Bool(true) {
        return Some(Acted::refused(
            "the Canary is suspended (spec.suspend), so nothing acts on it; set it to false first",
        ));
    }
    if (wish.verb != Verb::Rollback || wish.to.is_some())
        && let Some(Ok(other)) = parse::request(&objects.canary)
        && state.handled_request.as_ref() != Some(&other.id)
        && state.run.as_ref().map(|r| &r.id) == other.run.as_ref()
    {
        return Some(Acted::refused(format!(
            "request {} waits to be acted on; call get_status and try again then",
            other.id
        )));
    }
    None
}

/// Why the wish would do nothing, if it would.
fn pointless(wish: &Wish, state: &State) -> Option<Acted> {
    let phase = state.phase.name();
    match (wish.verb, state.stage) {
        (Verb::Rollback, Stage::Idle) if state.phase == Phase::Failed => {
            let why = state
                .run
                .as_ref()
                .and_then(|r| r.reason.clone())
                .unwrap_or_default();
            Some(Acted::already(format!(
                "the run was rolled back already ({why})"
            )))
        }
        (Verb::Rollback, Stage::Reverting | Stage::Restoring) => {
            Some(Acted::already("the run is being rolled back"))
        }
        (Verb::Rollback, Stage::Idle) => Some(Acted::refused(format!(
            "there is nothing to roll back: no run is going on (phase {phase}); to_revision goes back to a version before, get_status lists those under kept"
        ))),
        (Verb::Rollback, Stage::Bootstrap) => Some(Acted::refused(format!(
            "there is nothing to roll back: no run is going on (phase {phase})"
        ))),
        (Verb::Promote, Stage::Copying | Stage::Shifting | Stage::Settling) => {
            Some(Acted::already("the run is being promoted"))
        }
        (Verb::Promote, Stage::Idle) if state.phase == Phase::Succeeded => {
            Some(Acted::already("the last run was promoted already"))
        }
        (Verb::Promote, Stage::Waiting | Stage::Starting | Stage::Analysing)
            if !wish.skip && !waits_for_approval(state) =>
        {
            Some(Acted::refused(format!(
                "nothing waits for approval (phase {phase}); the run promotes by itself when its checks pass, or now with skip_analysis"
            )))
        }
        (Verb::Promote, Stage::Idle | Stage::Bootstrap | Stage::Reverting | Stage::Restoring) => {
            Some(Acted::refused(format!(
                "there is nothing to promote (phase {phase})"
            )))
        }
        (Verb::Promote, Stage::Waiting | Stage::Starting | Stage::Analysing | Stage::Gated)
        | (
            Verb::Rollback,
            Stage::Waiting
            | Stage::Starting
            | Stage::Analysing
            | Stage::Gated
            | Stage::Copying
            | Stage::Shifting
            | Stage::Settling,
        )
        | (Verb::Reset, _) => None,
    }
}

/// A gate of the run is closed that a person or a webhook opens.
fn waits_for_approval(state: &State) -> bool {
    let run = state.run.as_ref();
    let waiting = run.and_then(|run| run.waiting.as_ref());
    waiting.is_some_and(|w| w.what != WaitFor::Queue)
}

/// The request as an annotation, put only if the one that we read is still there.
fn put(objects: &Objects, request: &Request) -> Write {
    let text = serde_json::to_string(request).unwrap_or_default();
    annotation(&objects.canary, names::REQUEST, &text)
}

/// The engine has acted; on what, the states before and after say.
fn judged(request: &Request, before: &State, state: &State) -> Acted {
    let phase = state.phase.name();
    let new_run = state.run.as_ref().map(|r| &r.id) != request.run.as_ref();
    let copies = matches!(
        state.stage,
        Stage::Copying | Stage::Shifting | Stage::Settling
    );
    match (request.verb, &request.to) {
        (Verb::Rollback, Some(to)) if new_run && state.phase.running() => {
            let how = if request.skip {
                "without an analysis"
            } else {
                "and is analysed as any other"
            };
            Acted::applied(format!("revision {to} is rolled out again, {how}"))
        }
        (Verb::Reset, _) if new_run && state.phase.running() => {
            Acted::applied("the revision that has failed is analysed once more")
        }
        (Verb::Rollback, Some(_)) | (Verb::Reset, _) => {
            Acted::refused("the engine has not begun a run; the last event in get_status says why")
        }
        (Verb::Rollback, None) if matches!(state.stage, Stage::Reverting | Stage::Restoring) => {
            Acted::applied("the run is being rolled back, traffic first")
        }
        (Verb::Rollback, None) if state.phase == Phase::Failed => {
            Acted::applied("the run was rolled back")
        }
        (Verb::Promote, _) if copies || state.phase == Phase::Succeeded => {
            Acted::applied("the run is being promoted")
        }
        (Verb::Promote, _)
            if request.skip && matches!(state.stage, Stage::Waiting | Stage::Starting) =>
        {
            Acted::applied(
                "the run will be promoted without analysis as soon as the canary is ready",
            )
        }
        (Verb::Promote, _) if !new_run && opened(before, state) => {
            Acted::applied("the gate is open, the run goes on")
        }
        (Verb::Rollback, None) | (Verb::Promote, _) => Acted::refused(format!(
            "the run had gone on before the request came (phase {phase}); call get_status"
        )),
    }
}

/// What a person had to open is not waited for any more.
fn opened(before: &State, now: &State) -> bool {
    let waits = |state: &State| {
        let waiting = state.run.as_ref()?.waiting.as_ref()?;
        Some((waiting.what, waiting.since))
    };
    now.phase.running() && waits(before).is_some() && waits(before) != waits(now)
}

fn waiting(wish: &Wish, leaderless: Option<&str>, state: &State) -> Acted {
    let waits = wish.patience.as_secs();
    Acted::unconfirmed(match leaderless {
        Some(why) => format!(
            "the request is left on the Canary and will be acted on when somebody leads: {why}"
        ),
        None if wish.verb == Verb::Promote && waits_for_approval(state) => format!(
            "the request is on the Canary but was not acted on within {waits} s: the gate opens when the last analysis has passed and both \
             copies are ready; call get_status"
        ),
        None => format!(
            "the request is on the Canary but was not acted on within {waits} s; call get_status"
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn ops(metadata: &Value) -> Value {
        let objects = Objects {
            canary: Arc::new(json!({"metadata": metadata})),
            ..Objects::default()
        };
        let request = Request {
            id: "7".to_owned(),
            verb: Verb::Rollback,
            run: None,
            skip: false,
            to: None,
            reason: None,
            by: None,
            at: None,
        };
        let Write::Patch { ops, .. } = put(&objects, &request) else {
            return Value::Null;
        };
        ops.into()
    }

    #[test]
    fn of_two_requests_at_once_one_fails_its_test() {
        let path = "/metadata/annotations/canary-mcp.dev~1request";
        let text = r#"{"id":"7","verb":"rollback"}"#;
        let add = json!({"op": "add", "path": path, "value": text});
        assert_eq!(
            ops(&json!({"annotations": {"canary-mcp.dev/request": "old"}})),
            json!([{"op": "test", "path": path, "value": "old"}, add])
        );
        assert_eq!(
            ops(&json!({"annotations": {"a": "b"}})),
            json!([{"op": "test", "path": path, "value": null}, add])
        );
        let all = "/metadata/annotations";
        assert_eq!(
            ops(&json!({})),
            json!([{"op": "test", "path": all, "value": null}, {"op": "add", "path": all, "value": {}}, add])
        );
    }
}
