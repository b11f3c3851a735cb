//! Session affinity in the terms that the routers share: which cookies a route follows and hands out. As Flagger has it.

use crate::decide::{
    effect::Traffic,
    plan::{Affinity, Plan},
    state::Cookies,
};

/// Header of a request.
pub(super) const COOKIE: &str = "Cookie";
/// Header of an answer.
pub(super) const SET_COOKIE: &str = "Set-Cookie";

/// What a route does about cookies.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pins {
    /// Requests with this cookie go to the canary, whose other answers hand it out.
    pub(super) canary: Option<Pin>,
    /// Requests with this cookie go to the primary, whose other answers hand it out.
    pub(super) primary: Option<Pin>,
    /// Requests with this cookie go to the primary, whose answers take it back: the canary that it was for is gone.
    pub(super) old: Option<Pin>,
}

/// One cookie.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pin {
    /// A regular expression for the `Cookie` header. Flagger's.
    pub(super) regex: String,
    /// What `Set-Cookie` says.
    pub(super) set: String,
}

/// The cookies at `traffic`. Nobody is kept on the primary when all requests go to the canary, or when a match decides who goes there.
pub(super) fn pins(plan: &Plan, cookies: &Cookies, traffic: Traffic) -> Pins {
    let Some(affinity) = &plan.affinity else {
        return Pins::default();
    };
    let pin = |cookie: &Option<String>, max_age: i64| {
        let (name, value) = cookie.as_ref()?.split_once('=')?;
        Some(Pin {
            regex: format!(".*{name}.*{value}.*"),
            set: set(affinity, &format!("{name}={value}"), max_age),
        })
    };
    if !traffic.serves() {
        let old = cookies.canary.as_ref().or(cookies.previous.as_ref());
        return Pins {
            old: pin(&old.cloned(), -1),
            ..Pins::default()
        };
    }
    let split = affinity.primary_cookie.is_some() && traffic.canary() < 100 && !traffic.matches();
    Pins {
        canary: pin(&cookies.canary, i64::from(affinity.max_age)),
        primary: pin(&cookies.primary, i64::from(affinity.primary_max_age)).filter(|_| split),
        old: None,
    }
}

/// `NAME=VALUE; Max-Age=N` and the attributes. Flagger leaves them out where it takes a cookie back, and a browser keeps one of another domain or
/// path then.
fn set(affinity: &Affinity, cookie: &str, max_age: i64) -> String {
    let mut text = format!("{cookie}; Max-Age={max_age}");
    for attribute in &affinity.attributes {
        text.push_str("; ");
        text.push_str(attribute);
    }
    text
}

/// `Set-Cookie` says this of one of our cookies.
pub(super) fn is_ours(plan: &Plan, text: &str) -> bool {
    let name = text.split_once('=').map(|(name, _)| name.trim());
    let names = plan.affinity.iter().flat_map(|affinity| {
        let primary = affinity.primary_cookie.as_deref();
        [Some(affinity.cookie.as_str()), primary]
    });
    names.flatten().any(|ours| name == Some(ours))
}
