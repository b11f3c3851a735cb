//! [`Ctx`]: what a rollout reads and writes through.

use std::sync::Arc;

use super::{
    Shared,
    world::{CloseUp, Near},
};
use crate::{
    api::objects::{Object, Objects, SERVICE, VIRTUAL_SERVICE, Write},
    cluster::{Cluster, Error, lease::Held},
};

/// What a rollout reads and writes through.
pub(super) struct Ctx {
    pub(super) shared: Arc<Shared>,
    pub(super) near: Near,
    pub(super) close: Option<CloseUp>,
    pub(super) held: Held,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Ctx {
    pub(super) fn cluster(&self) -> &Cluster {
        self.near.enrolled().world().cluster()
    }

    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    /// As it was read last, and never older than our own last write.
    pub(super) fn snapshot(&self) -> Option<Objects> {
        self.near.snapshot(self.close.as_ref())
    }

    /// The same, after what has changed since was read again.
    pub(super) async fn refreshed(&self) -> Result<Option<Objects>, Error> {
        let there = self.near.refresh().await?;
        Ok(self.snapshot().filter(|_| there))
    }

    /// The Services of the Canary's namespace and all `VirtualServices`, read now. They only add to a diagnosis; without the right to list
    /// them the rest is still true.
    pub(super) async fn around(&self) -> (Vec<Object>, Vec<Object>) {
        let (services, routes) = futures::join!(
            self.cluster()
                .list(&SERVICE, Some(&self.namespace), None, None),
            self.cluster().list(&VIRTUAL_SERVICE, None, None, None),
        );
        (services.unwrap_or_default(), routes.unwrap_or_default())
    }

    /// One fenced write, taken at once.
    pub(super) async fn write(&self, write: &Write) -> Result<(), Error> {
        let object = self.cluster().write(write, Some(&self.held)).await?;
        self.take(&object);
        Ok(())
    }

    /// Sets the fence on one object.
    pub(super) async fn stamp(&self, object: &Object) -> Result<(), Error> {
        let object = self.cluster().stamp(object, &self.held).await?;
        self.take(&object);
        Ok(())
    }

    /// Takes the answer of our own write.
    pub(super) fn take(&self, object: &Object) {
        self.near.put(object);
    }
}
