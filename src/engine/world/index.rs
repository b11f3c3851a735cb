//! Whom a change of an object wakes: those alone that name it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::sync::Notify;

use super::lock;
use crate::api::objects::{Kind, Ref};

/// From objects to the Canaries that name them. A wake-up that comes while one is worked on is kept for afterwards.
#[derive(Default)]
pub(super) struct Index {
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    named: HashMap<Ref, Vec<Arc<Notify>>>,
    /// By namespace and name of the Canary.
    canaries: HashMap<(String, String), Arc<Notify>>,
    /// By uid of the Canary.
    owners: HashMap<String, Arc<Notify>>,
}

impl Index {
    pub(super) fn enroll(&self, key: &(String, String), uid: &str, wake: &Arc<Notify>) {
        let mut tables = lock(&self.tables);
        tables.owners.insert(uid.to_owned(), wake.clone());
        tables.canaries.insert(key.clone(), wake.clone());
    }

    /// Forgets a Canary; another of the same name may have taken its place.
    pub(super) fn leave(&self, key: &(String, String), uid: &str, wake: &Arc<Notify>) {
        let mut tables = lock(&self.tables);
        let ours = |other: &Arc<Notify>| Arc::ptr_eq(other, wake);
        if tables.owners.get(uid).is_some_and(ours) {
            tables.owners.remove(uid);
        }
        if tables.canaries.get(key).is_some_and(ours) {
            tables.canaries.remove(key);
        }
    }

    pub(super) fn add(&self, of: &Ref, wake: &Arc<Notify>) {
        let mut tables = lock(&self.tables);
        tables
            .named
            .entry(of.clone())
            .or_default()
            .push(wake.clone());
    }

    pub(super) fn remove(&self, of: &Ref, wake: &Arc<Notify>) {
        let mut tables = lock(&self.tables);
        if let Some(all) = tables.named.get_mut(of) {
            all.retain(|other| !Arc::ptr_eq(other, wake));
            if all.is_empty() {
                tables.named.remove(of);
            }
        }
    }

    /// An object has changed.
    pub(super) fn named(&self, kind: &Kind, namespace: &str, name: &str) {
        let of = Ref {
            kind: *kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let tables = lock(&self.tables);
        for wake in tables.named.get(&of).into_iter().flatten() {
            wake.notify_one();
        }
    }

    /// A Canary has changed.
    pub(super) fn canary(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(wake) = lock(&self.tables).canaries.get(&key) {
            wake.notify_one();
        }
    }

    /// Something that the Canary of this uid owns has changed.
    pub(super) fn owner(&self, uid: Option<&str>) {
        let tables = lock(&self.tables);
        if let Some(wake) = uid.and_then(|uid| tables.owners.get(uid)) {
            wake.notify_one();
        }
    }
}
