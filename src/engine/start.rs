//! `start_canary`: sets the target's image and sees the run begin.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    control::{Acted, Control, ControlError, Key, Start, Wish, unreachable},
    objects,
    tell::{driven_by, not_ours},
    verify::{until, write_failed},
};
use crate::{
    api::{
        objects::{DEPLOYMENT, Object, ObjectExt, Objects, Ref, Write},
        parse,
        revision::revision,
        status,
    },
    build::{check, git, manifest},
    cluster::Cluster,
    decide::{
        facts::Verb,
        plan::Plan,
        state::{Phase, Stage, State},
    },
};

/// How long the engine may take to begin a run before the answer is "unconfirmed".
const PATIENCE: Duration = Duration::from_secs(15);
pub(super) const CONTAINERS: &str = "/spec/template/spec/containers";

impl Control {
    /// Sets the target's image and waits until the engine has begun the run (or has said why not), a few seconds at most.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` and `Unreachable` as everywhere; a wish that is not done for a reason of the rollout's own is `Ok` with
    /// `Outcome::Refused`.
    pub async fn start(&self, start: &Start) -> Result<Acted, ControlError> {
        let key = &start.key;
        let cluster = self.cluster(&key.cluster)?;
        let Some(objects) = objects::read(&cluster, &key.namespace, &key.name)
            .await
            .map_err(|e| unreachable(&e))?
        else {
            return without_canary(&cluster, key).await;
        };
        let acted = match self.may_start(&cluster, start, &objects).await? {
            Ok(Begin::Image(write)) => set_image(&cluster, key, &write).await,
            Ok(Begin::Again) => return self.wish(&again(start)).await,
            Err(acted) => acted,
        };
        Ok(self.seen(key, acted).await)
    }

    /// What starts the run, or why nothing does.
    pub(super) async fn may_start(
        &self,
        cluster: &Cluster,
        start: &Start,
        objects: &Objects,
    ) -> Result<Result<Begin, Acted>, ControlError> {
        let plan = match parse::plan(&objects.canary, &self.shared.settings.on(cluster).parse) {
            Ok(plan) => plan,
            Err(refusals) => return Ok(Err(Acted::refused(joined(&refusals)))),
        };
        let refusals = check::check(&plan, objects);
        if !refusals.is_empty() {
            return Ok(Err(Acted::refused(joined(&refusals))));
        }
        let Some(target) = &objects.target else {
            return Ok(Err(Acted::refused(format!(
                "there is no Deployment {}/{}; create it first",
                plan.namespace, plan.target
            ))));
        };
        let (index, old) = container(target, start.container.as_deref())?;
        if let Some(why) = barred(start, &plan, target, index) {
            return Ok(Err(Acted::refused(why)));
        }
        let state = status::state(&objects.canary, cluster.clock().now());
        if state.phase == Phase::Initializing
            && let Some(why) = self.leaderless(cluster).await?
        {
            return Ok(Err(Acted::refused(format!(
                "the Canary is not initialized, and {why}"
            ))));
        }
        if let Some(other) = driven_by(&objects.canary) {
            return Ok(Err(Acted::refused(format!(
                "this Canary is not ours to drive: {}",
                not_ours(other)
            ))));
        }
        let path = format!("{CONTAINERS}/{index}/image");
        let image = Image::of(start, target, &path, &old);
        let failed = image.failed(&state);
        if let Some(acted) = standing(&state, &image)
            && !(start.retry && failed)
        {
            return Ok(Err(acted));
        }
        if let Some(why) = self.leaderless(cluster).await? {
            return Ok(Err(Acted::refused(format!(
                "{why}, then call start_canary again"
            ))));
        }
        if let Some(missing) = status::missing_rights(&objects.canary) {
            return Ok(Err(Acted::refused(format!(
                "whoever leads could not carry the run out: {missing}"
            ))));
        }
        if failed {
            return Ok(Ok(Begin::Again));
        }
        let ops = vec![
            json!({"op": "test", "path": path, "value": old}),
            json!({"op": "replace", "path": path, "value": image.name}),
        ];
        Ok(Ok(Begin::Image(Write::Patch {
            from: target.clone(),
            ops,
        })))
    }
}

/// What starts a run.
pub(super) enum Begin {
    /// Another image of the target.
    Image(Write),
    /// A request to try what has failed once more.
    Again,
}

/// The wish that tries what has failed once more.
fn again(start: &Start) -> Wish {
    Wish {
        key: start.key.clone(),
        verb: Verb::Reset,
        skip: false,
        to: None,
        reason: None,
        by: start.by.clone(),
        patience: PATIENCE,
    }
}

/// An image that is asked for, and the target's revisions without and with it.
struct Image<'a> {
    name: &'a str,
    same: bool,
    now: String,
    then: String,
}

impl<'a> Image<'a> {
    fn of(start: &'a Start, target: &Object, path: &str, old: &'a str) -> Self {
        let name = start.image.as_deref().unwrap_or(old);
        Self {
            name,
            same: old == name,
            now: revision(&target["spec"]["template"]),
            then: revision(&with_image(target, path, name)["spec"]["template"]),
        }
    }

    /// The target has it, and its last run has failed.
    fn failed(&self, state: &State) -> bool {
        self.same
            && state.phase == Phase::Failed
            && !state.traffic.serves()
            && state.last_applied.as_ref() == Some(&self.now)
            && state.last_promoted.as_ref() != Some(&self.now)
    }
}

pub(super) fn with_image(target: &Object, path: &str, image: &str) -> Value {
    let mut target = target.as_ref().clone();
    if let Some(field) = target.pointer_mut(path) {
        *field = image.into();
    }
    target
}

/// What the objects themselves say against setting the image.
fn barred(start: &Start, plan: &Plan, target: &Object, container: usize) -> Option<String> {
    if plan.suspend {
        return Some("the Canary is suspended (spec.suspend); set it to false first".to_owned());
    }
    // To try the target's own image once more changes nothing of it.
    let image = start.image.as_deref().filter(|image| {
        let path = format!("{CONTAINERS}/{container}/image");
        !start.retry || target.str_at(&path) != Some(*image)
    });
    if let (Some(owner), Some(image)) = (git::git_owner(target), image) {
        return Some(format!(
            "Deployment {}/{} is owned by {owner}; change the image of container {} to {} in git, the rollout begins when that is synced",
            plan.namespace,
            plan.target,
            target
                .str_at(&format!("{CONTAINERS}/{container}/name"))
                .unwrap_or_default(),
            image
        ));
    }
    let live = revision(&target["spec"]["template"]);
    let expected = start.expect_revision.as_ref()?;
    let hex = |revision: &str| revision.trim_start_matches("v1-").to_owned();
    (!hex(&live).starts_with(&hex(expected))).then(|| {
        format!("the target's revision is {live}, not {expected}; call get_status and decide again")
    })
}

/// What the recorded state says about starting a run.
fn standing(state: &State, wish: &Image<'_>) -> Option<Acted> {
    let image = wish.name;
    let why = || {
        let reason = state.run.as_ref().and_then(|r| r.reason.clone());
        reason.unwrap_or_else(|| "no reason is recorded".to_owned())
    };
    if state.phase == Phase::Failed && state.traffic.serves() {
        return Some(Acted::refused(format!(
            "the last rollback left all traffic on the canary ({}); repair the primary first, traffic then returns by itself",
            why()
        )));
    }
    if state.phase == Phase::Initializing {
        return Some(Acted::refused(
            "the Canary is still being initialized; call get_status until its phase is Initialized",
        ));
    }
    let going_on = state.phase.running();
    if going_on && !wish.same && state.last_promoted.as_ref() == Some(&wish.then) {
        return Some(Acted::refused(format!(
            "{image} is what is live, and a run of another image is going on; call rollback to end that run"
        )));
    }
    if !wish.same {
        return None;
    }
    if matches!(state.stage, Stage::Reverting | Stage::Restoring) {
        return Some(Acted::refused(format!(
            "the run of {image} is being rolled back ({}); call get_status until its phase is Failed, and start another image then",
            why()
        )));
    }
    if going_on {
        return Some(Acted::already(format!("a run of {image} is going on")));
    }
    if state.last_promoted.as_ref() == Some(&wish.now) {
        return Some(Acted::already(format!("{image} is what is live")));
    }
    wish.failed(state).then(|| {
        Acted::refused(format!(
            "{image} was rolled back ({}); build a new image, or try this one once more with retry",
            why()
        ))
    })
}

async fn set_image(cluster: &Cluster, key: &Key, write: &Write) -> Acted {
    let written = match cluster.write(write, None).await {
        Ok(written) => written,
        Err(error) => return write_failed(&error),
    };
    let wanted = revision(&written["spec"]["template"]);
    let begun = |canary: &Value| canary.str_at("/status/lastAppliedSpec") == Some(wanted.as_str());
    let begun_or_not = |canary: &Value| begun(canary) || status::missing_rights(canary).is_some();
    match until(cluster, key, PATIENCE, begun_or_not).await {
        Some(canary) if !begun(&canary) => Acted::unconfirmed(format!(
            "the image is set, but whoever leads cannot carry the run out: {}",
            status::missing_rights(&canary).unwrap_or_default()
        )),
        Some(canary) if canary.str_at("/status/lastPromotedSpec") == Some(wanted.as_str()) => {
            Acted::applied("the image is set back to what is live, so there is nothing to roll out")
        }
        Some(_) => Acted::applied("the image is set and the engine has taken the revision up"),
        None => Acted::unconfirmed(format!(
            "the image is set, but the engine has not begun within {} s; call get_status to see why",
            PATIENCE.as_secs()
        )),
    }
}

/// The container to change and its image.
pub(super) fn container(
    target: &Object,
    name: Option<&str>,
) -> Result<(usize, String), ControlError> {
    let containers = target.array_at(CONTAINERS);
    let names: Vec<&str> = containers
        .iter()
        .filter_map(|c| c.str_at("/name"))
        .collect();
    let index = match name {
        Some(name) => names.iter().position(|n| *n == name),
        None => (containers.len() == 1).then_some(0),
    };
    let Some(index) = index else {
        let problem = match name {
            Some(name) => format!("there is no container {name}"),
            None => "the Deployment has several containers".to_owned(),
        };
        return Err(ControlError::Invalid(format!(
            "container: {problem}; name one of: {}",
            names.join(", ")
        )));
    };
    let image = containers[index]
        .str_at("/image")
        .unwrap_or_default()
        .to_owned();
    Ok((index, image))
}

fn joined(refusals: &[parse::Refusal]) -> String {
    let said: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    format!("the Canary cannot be carried out: {}", said.join("; "))
}

/// A Deployment without a Canary gets a Canary for it; no Deployment either is not found.
pub(super) async fn without_canary(cluster: &Cluster, key: &Key) -> Result<Acted, ControlError> {
    let of = Ref {
        kind: DEPLOYMENT,
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    };
    let Some(deployment) = cluster.get(&of).await.map_err(|e| unreachable(&e))? else {
        return Err(ControlError::NotFound(format!(
            "name: cluster {} has neither a Canary nor a Deployment {}/{}; call get_status without a name to see the Canaries",
            key.cluster, key.namespace, key.name
        )));
    };
    let around = objects::around_deployment(cluster, &key.namespace, &key.name).await;
    let manifest = manifest::manifest_for(&deployment, &around);
    Ok(Acted::refused(format!(
        "Deployment {}/{} has no Canary; nothing was changed. Apply this one with `kubectl apply -f -`, wait until its phase is Initialized, \
         then call start_canary again:\n{manifest}",
        key.namespace, key.name
    )))
}
