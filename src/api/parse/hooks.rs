//! `spec.analysis.webhooks`.

use super::fields::Fields;
use crate::{
    api::time,
    decide::{
        effect::About,
        plan::{Hook, HookKind, HookRequest, Outcome},
    },
};

/// Flagger: without a timeout, or with one of a single character.
const TIMEOUT: i64 = 10_000;
/// What a hook may take at most: a load tester's own limit.
const LONGEST: i64 = 3_600_000;
/// Further attempts, at most; the back-off between them grows to half a minute.
const RETRIES: i64 = 20;

pub(super) fn hooks(f: &mut Fields<'_>) -> Vec<Hook> {
    let mut all: Vec<Hook> = Vec::new();
    for i in 0..f.len("spec.analysis.webhooks") {
        let path = format!("spec.analysis.webhooks[{i}]");
        let hook = hook(f, &path);
        if all
            .iter()
            .any(|other| other.name == hook.name && other.kind == hook.kind)
        {
            f.refuse(
                &format!("{path}.name"),
                format!(
                    "there are two {} hooks named {:?}",
                    hook.kind.name(),
                    hook.name
                ),
                "give each its own name: it tells them apart in events and in Idempotency-Key",
            );
        }
        all.push(hook);
    }
    all
}

fn hook(f: &mut Fields<'_>, path: &str) -> Hook {
    let name = f.string(&format!("{path}.name"));
    if name.is_none() {
        f.refuse(
            &format!("{path}.name"),
            "the webhook has no name",
            "name it",
        );
    }
    let url = f.string(&format!("{path}.url"));
    if url.is_none() {
        f.refuse(
            &format!("{path}.url"),
            "the webhook has no url",
            "give the address that is called",
        );
    }
    let kind = kind(f, path);
    let metadata = f.map(&format!("{path}.metadata"));
    let events = events(f, path, kind, &metadata);
    Hook {
        name: name.unwrap_or_default(),
        kind,
        url: url.unwrap_or_default(),
        timeout: timeout(f, path),
        retries: u32::try_from(f.integer(&format!("{path}.retries"), 0, 0..=RETRIES)).unwrap_or(0),
        disable_tls: f.boolean(&format!("{path}.disableTLS")),
        mute_alert: f.boolean(&format!("{path}.muteAlert")),
        metadata,
        when: when(f, path, kind),
        events,
        request: request(f, path),
    }
}

fn kind(f: &mut Fields<'_>, path: &str) -> HookKind {
    let path = format!("{path}.type");
    let Some(text) = f.string(&path) else {
        return HookKind::Rollout;
    };
    named(f, &path, &text, "type of webhook", &HookKind::ALL).unwrap_or(HookKind::Rollout)
}

/// Flagger: a text shorter than two characters is no timeout.
fn timeout(f: &mut Fields<'_>, path: &str) -> i64 {
    let path = format!("{path}.timeout");
    let Some(text) = f.string(&path).filter(|text| text.len() > 1) else {
        return TIMEOUT;
    };
    if let Some(ms) = time::duration(&text).filter(|ms| (1..=LONGEST).contains(ms)) {
        return ms;
    }
    f.refuse(
        &path,
        format!("{text:?} is not a duration of at most an hour"),
        "write a duration like 30s",
    );
    TIMEOUT
}

fn when(f: &mut Fields<'_>, path: &str, kind: HookKind) -> Vec<Outcome> {
    let path = format!("{path}.when");
    let all = names(f, &path, "end of a run", &Outcome::ALL);
    if !all.is_empty() && kind != HookKind::PostRollout {
        f.refuse(
            &path,
            format!("a {} hook is not called at the end of a run", kind.name()),
            "set type: post-rollout, or take when out",
        );
    }
    all
}

/// `events`; the guide's `metadata.eventType` is read as one.
fn events(
    f: &mut Fields<'_>,
    path: &str,
    kind: HookKind,
    metadata: &[(String, String)],
) -> Vec<About> {
    let path = format!("{path}.events");
    let mut all = names(f, &path, "event", &About::ALL);
    if kind == HookKind::Event {
        let guide = metadata.iter().filter(|(key, _)| key == "eventType");
        let known = |text: &str| About::ALL.iter().find(|(name, _)| *name == text);
        let guide = guide.filter_map(|(_, text)| known(text));
        all.extend(guide.map(|(_, about)| *about));
    } else if !all.is_empty() {
        f.refuse(
            &path,
            format!("a {} hook is not called with events", kind.name()),
            "set type: event, or take events out",
        );
    }
    all
}

fn request(f: &mut Fields<'_>, path: &str) -> Option<HookRequest> {
    let path = format!("{path}.request");
    f.at(&path)?;
    let at = format!("{path}.method");
    let method = f.string(&at).unwrap_or_else(|| "POST".to_owned());
    if !["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str()) {
        f.refuse(
            &at,
            format!("{method:?} is no method that a hook can have"),
            "use GET, POST, PUT, PATCH or DELETE",
        );
    }
    let secret = format!("{path}.headersFrom.secretRef.name");
    let headers_from = f.at(&secret).map(|_| f.name(&secret, 253));
    Some(HookRequest {
        method,
        headers_from,
        body: f.string(&format!("{path}.body")),
    })
}

fn names<T: Copy>(f: &mut Fields<'_>, path: &str, what: &str, known: &[(&str, T)]) -> Vec<T> {
    let mut all = Vec::new();
    for (i, text) in f.strings(path).into_iter().enumerate() {
        all.extend(named(f, &format!("{path}[{i}]"), &text, what, known));
    }
    all
}

fn named<T: Copy>(
    f: &mut Fields<'_>,
    path: &str,
    text: &str,
    what: &str,
    known: &[(&str, T)],
) -> Option<T> {
    if let Some((_, found)) = known.iter().find(|(name, _)| *name == text) {
        return Some(*found);
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    f.refuse(
        path,
        format!("there is no {what} {text:?}"),
        format!("use one of {}", names.join(", ")),
    );
    None
}
