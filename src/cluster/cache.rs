//! What a watch knows: the objects in the form that it keeps them in, and which of them only our own writes have shown so far.

use std::collections::{BTreeMap, btree_map::Entry};

use serde_json::Value;

use super::form::Form;
use crate::api::objects::ObjectExt;

/// Namespace and name.
pub(crate) type Key = (String, String);

pub(super) struct Cache<T> {
    pub(super) objects: BTreeMap<Key, T>,
    /// The list that is being read, until it is complete.
    pub(super) list: Option<BTreeMap<Key, T>>,
    /// Objects that only [`Watch::put`](super::watch::Watch::put) has shown: the watch must confirm them.
    pub(super) unconfirmed: BTreeMap<Key, u64>,
    /// The newest resourceVersion that the watch has shown.
    pub(super) newest: u64,
}

/// News of one object: as it is now, or as it was when it is gone.
pub(super) type News<T> = (Key, T);

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            list: None,
            unconfirmed: BTreeMap::new(),
            newest: 0,
        }
    }
}

impl<T: Form> Cache<T> {
    /// The list is complete: it is the truth, except for what we wrote while it was read. What is news in it.
    pub(super) fn listed(&mut self) -> Vec<News<T>> {
        let Some(list) = self.list.take() else {
            return Vec::new();
        };
        let newest = list.values().map(Form::version).max();
        self.newest = self.newest.max(newest.unwrap_or(0));
        let mut old = std::mem::replace(&mut self.objects, list);
        for (key, version) in std::mem::take(&mut self.unconfirmed) {
            let listed = self.objects.get(&key).map(Form::version);
            if listed.is_some_and(|listed| listed >= version) {
                continue;
            }
            if let Some(own) = old.get(&key) {
                self.objects.insert(key.clone(), own.clone());
                self.unconfirmed.insert(key, version);
            }
        }
        let mut news = Vec::new();
        for (key, object) in &self.objects {
            if old.remove(key).as_ref() != Some(object) {
                news.push((key.clone(), object.clone()));
            }
        }
        news.extend(old);
        news
    }

    /// The watch shows an object as added or changed; what is news of it.
    pub(super) fn applied(&mut self, key: Key, object: T) -> Option<News<T>> {
        let version = object.version();
        self.newest = self.newest.max(version);
        if self
            .unconfirmed
            .get(&key)
            .is_some_and(|own| *own <= version)
        {
            self.unconfirmed.remove(&key);
        }
        match self.objects.entry(key.clone()) {
            // Older than our own last write, or that write itself.
            Entry::Occupied(known) if version != 0 && known.get().version() >= version => None,
            Entry::Occupied(mut known) => {
                known.insert(object.clone());
                Some((key, object))
            }
            Entry::Vacant(place) => {
                place.insert(object.clone());
                Some((key, object))
            }
        }
    }

    /// The watch shows an object as deleted at this version; what was known of it, if that is news.
    pub(super) fn deleted(&mut self, key: Key, version: u64) -> Option<News<T>> {
        self.newest = self.newest.max(version);
        // Made again since, by us.
        if version != 0
            && self
                .objects
                .get(&key)
                .is_some_and(|known| known.version() > version)
        {
            return None;
        }
        self.unconfirmed.remove(&key);
        let known = self.objects.remove(&key)?;
        Some((key, known))
    }
}

/// Namespace and name of an object.
pub(super) fn key_of(object: &Value) -> Key {
    (object.namespace().to_owned(), object.name().to_owned())
}

/// The resourceVersion as a number, which Kubernetes 1.35 guarantees and every API server before it had; 0 when it is none.
pub(super) fn number(object: &Value) -> u64 {
    object.resource_version().parse().unwrap_or(0)
}
