//! Which Canaries of a namespace claim one object, known without a look at any of them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use super::{World, lock};
use crate::api::claim::Claim;

/// What each Canary claims, by namespace and name. A few names of each: one that changes is compared with the others of its namespace.
#[derive(Default)]
pub(super) struct Claims {
    namespaces: Mutex<BTreeMap<String, BTreeMap<String, Claim>>>,
}

impl Claims {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<String, Claim>>> {
        lock(&self.namespaces)
    }

    /// What a Canary claims now, `None` when it is gone. The names of those of its namespace that this concerns.
    fn set(&self, namespace: &str, name: &str, claim: Option<&Claim>) -> Vec<String> {
        let mut namespaces = self.lock();
        let claims = namespaces.entry(namespace.to_owned()).or_default();
        let old = match claim {
            Some(claim) => claims.insert(name.to_owned(), claim.clone()),
            None => claims.remove(name),
        };
        if old.as_ref() == claim {
            return Vec::new();
        }
        let versions: Vec<&Claim> = old.iter().chain(claim).collect();
        let concerns = |other: &Claim| versions.iter().any(|v| v.clash(other).is_some());
        let concerned = claims.iter().filter(|(_, other)| concerns(other));
        let mut concerned: Vec<String> = concerned.map(|(name, _)| name.clone()).collect();
        if concerned.is_empty() {
            if claims.is_empty() {
                namespaces.remove(namespace);
            }
        } else {
            concerned.push(name.to_owned());
        }
        concerned
    }

    /// What this Canary claims, as far as that has come here.
    fn get(&self, namespace: &str, name: &str) -> Option<Claim> {
        self.lock().get(namespace)?.get(name).cloned()
    }

    fn rivals(&self, namespace: &str, own: &Claim) -> Vec<Claim> {
        let namespaces = self.lock();
        let claims = namespaces.get(namespace);
        let all = claims.into_iter().flat_map(BTreeMap::values);
        all.filter(|other| own.clash(other).is_some())
            .cloned()
            .collect()
    }
}

impl World {
    /// Takes what this Canary claims now, and wakes those whom that concerns.
    pub(in crate::engine) fn claim(&self, namespace: &str, name: &str) {
        let canary = self.canary(namespace, name).map(|kept| kept.object());
        let claim = canary.map(|canary| Claim::of(&canary));
        for concerned in self.shared.claims.set(namespace, name, claim.as_ref()) {
            self.wake(namespace, &concerned);
        }
    }

    /// Wakes whoever drives this Canary.
    pub(in crate::engine) fn wake(&self, namespace: &str, name: &str) {
        self.shared.index.canary(namespace, name);
    }

    /// What this Canary claims, as far as it was told here.
    pub(super) fn claim_of(&self, namespace: &str, name: &str) -> Option<Claim> {
        self.shared.claims.get(namespace, name)
    }

    /// The others of its namespace that claim what this one claims.
    pub(super) fn rivals(&self, namespace: &str, own: &Claim) -> Vec<Claim> {
        self.shared.claims.rivals(namespace, own)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(name: &str, target: &str) -> Claim {
        let canary: Value = json!({
            "metadata": {"name": name, "namespace": "shop", "uid": name},
            "spec": {"targetRef": {"kind": "Deployment", "name": target}}
        });
        Claim::of(&canary)
    }

    fn rivals(claims: &Claims, namespace: &str, name: &str) -> Vec<String> {
        let own = claims.get(namespace, name).unwrap();
        let rivals = claims.rivals(namespace, &own);
        rivals.into_iter().map(|claim| claim.name).collect()
    }

    #[test]
    fn whom_a_change_concerns_is_found_among_its_namespace() {
        let claims = Claims::default();
        assert_eq!(claims.set("shop", "a", Some(&claim("a", "web"))), [""; 0]);
        assert_eq!(claims.set("shop", "b", Some(&claim("b", "api"))), [""; 0]);
        assert_eq!(claims.set("other", "c", Some(&claim("c", "web"))), [""; 0]);
        assert_eq!(
            claims.set("shop", "b", Some(&claim("b", "web"))),
            ["a", "b"]
        );
        assert_eq!(rivals(&claims, "shop", "a"), ["b"]);
        assert_eq!(rivals(&claims, "shop", "b"), ["a"]);
        assert_eq!(rivals(&claims, "other", "c"), [""; 0]);
        // A status write says nothing new.
        assert_eq!(claims.set("shop", "b", Some(&claim("b", "web"))), [""; 0]);
        // What it leaves concerns the other one, too.
        assert_eq!(
            claims.set("shop", "b", Some(&claim("b", "api"))),
            ["a", "b"]
        );
        assert_eq!(
            claims.set("shop", "b", Some(&claim("b", "web-primary"))),
            ["a", "b"]
        );
        assert_eq!(claims.set("shop", "a", None), ["b", "a"]);
        assert_eq!(rivals(&claims, "shop", "b"), [""; 0]);
        assert_eq!(claims.set("shop", "b", None), [""; 0]);
        assert_eq!(claims.set("other", "c", None), [""; 0]);
        assert!(claims.lock().is_empty());
    }
}
