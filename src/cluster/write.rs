//! The one way of writing: every change is made against an object as it was read, and fails when that is no longer so.
//!
//! A fenced write also needs the cluster's Lease, right before it is sent and on the object itself: see [`Cluster::write`].

use std::{sync::Arc, time::Duration};

use http::Method;
use serde_json::{Value, json};

use super::{
    Cluster,
    error::{Cause, Error, ErrorKind},
    lease::Held,
    prepare::{self, JSON, JSON_PATCH, MERGE_PATCH, Prepared, Refused, with_manager},
    proof::Proof,
    wire::{self, Call},
};
use crate::api::{
    names::EPOCH,
    objects::{Kind, Object, ObjectExt, Ref, Write},
};

impl Cluster {
    /// Writes, under the field manager `canary-mcp`, and gives back the whole object as it is now stored.
    ///
    /// `Patch` tests uid and generation (resourceVersion where the kind has no generation); `Merge`, `Scale` and the others carry the
    /// resourceVersion or the uid. With a `fence` the Lease is checked right before sending, and an object that carries the epoch
    /// annotation must carry ours; a patch of one that still carries an earlier holder's epoch tests that one and sets ours.
    ///
    /// When the answer is lost, the object is read again: if it shows the result, that is the answer.
    ///
    /// # Errors
    /// `Conflict` when the object has changed since it was read, `AlreadyExists`, `NotFound`, `Forbidden`, `LeaseLost`, `Rejected`;
    /// `Unconfirmed` when no answer came and the object does not show the result.
    pub async fn write(&self, write: &Write, fence: Option<&Held>) -> Result<Object, Error> {
        let epoch = fence.map(Held::epoch);
        let prepared = prepare::write(write, epoch).map_err(|refused| self.refused(refused))?;
        if let Some(fence) = fence {
            self.check_epoch(write, &prepared, fence)?;
        }
        let scaled = matches!(write, Write::Scale { .. });
        let of = prepared.of.clone();
        let operation = prepared.operation;
        let answer = self.carry_out(prepared, fence).await?;
        // The answer is a Scale (or a Status), and callers want the workload.
        if scaled && answer["kind"] == "Scale" {
            return match self.get(&of).await {
                Ok(Some(object)) => Ok(object),
                Ok(None) => Err(self.error_of(operation, &of, |context| {
                    Error::of_kind(ErrorKind::NotFound, context, None)
                })),
                Err(error) => Err(self.error_of(operation, &of, |context| {
                    Error::of_kind(
                        ErrorKind::Unconfirmed,
                        context,
                        Some(Cause::Own(error.report())),
                    )
                })),
            };
        }
        match write {
            Write::Delete { from } if answer["kind"] != from["kind"] => Ok(Arc::clone(from)),
            Write::Create(_)
            | Write::Patch { .. }
            | Write::Merge { .. }
            | Write::Scale { .. }
            | Write::Delete { .. } => Ok(answer),
        }
    }

    /// PUTs the status subresource of `object`, which carries the resourceVersion that it was read with.
    ///
    /// # Errors
    /// As [`Cluster::write`].
    pub async fn put_status(&self, object: &Value, fence: &Held) -> Result<Object, Error> {
        let prepared = prepare::status(object).map_err(|refused| self.refused(refused))?;
        self.check_epoch_of(object, &prepared, fence)?;
        self.carry_out(prepared, Some(fence)).await
    }

    /// Sets the fence's epoch on `object`, so that every write of an earlier holder fails from now on. Writes nothing when it is there.
    ///
    /// # Errors
    /// As [`Cluster::write`].
    pub async fn stamp(&self, object: &Object, fence: &Held) -> Result<Object, Error> {
        if object.annotation(EPOCH) == Some(fence.epoch()) {
            return Ok(Arc::clone(object));
        }
        let stamp = prepare::stamp(object, fence.epoch());
        let prepared = stamp.map_err(|refused| self.refused(refused))?;
        self.check_epoch_of(object, &prepared, fence)?;
        self.carry_out(prepared, Some(fence)).await
    }

    /// Creates `object` as it is, without a fence. For the Lease and for events.
    pub(super) async fn post(
        &self,
        of: &Ref,
        object: &Value,
        within: Duration,
    ) -> Result<Object, Error> {
        let path = with_manager(&wire::collection(&of.kind, Some(&of.namespace)));
        let call = Call::write(Method::POST, path, JSON, object, within);
        self.plain_write("create", of, call).await
    }

    /// PUTs `object`, which carries its resourceVersion, without a fence. For the Lease.
    pub(super) async fn replace(
        &self,
        of: &Ref,
        object: &Value,
        within: Duration,
    ) -> Result<Object, Error> {
        let path = wire::item(of).map_err(|cause| self.error("update", of, cause))?;
        let call = Call::write(Method::PUT, with_manager(&path), JSON, object, within);
        self.plain_write("update", of, call).await
    }

    /// Deletes `object` if it is still as it was read, without a fence. For presence Leases.
    pub(super) async fn remove(
        &self,
        of: &Ref,
        object: &Value,
        within: Duration,
    ) -> Result<Object, Error> {
        let item = wire::item(of).map_err(|cause| self.error("delete", of, cause))?;
        let options = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": object.uid(), "resourceVersion": object.resource_version()},
        });
        let call = Call::write(Method::DELETE, item, JSON, &options, within);
        self.plain_write("delete", of, call).await
    }

    /// Merge-patches an object without any precondition and without a fence. For event series.
    pub(super) async fn merge(
        &self,
        of: &Ref,
        patch: &Value,
        within: Duration,
    ) -> Result<Object, Error> {
        let item = wire::item(of).map_err(|cause| self.error("patch", of, cause))?;
        let call = Call::write(
            Method::PATCH,
            with_manager(&item),
            MERGE_PATCH,
            patch,
            within,
        );
        self.plain_write("patch", of, call).await
    }

    async fn plain_write(
        &self,
        operation: &'static str,
        of: &Ref,
        call: Call,
    ) -> Result<Object, Error> {
        match self.send(call).await {
            Ok(answer) => Ok(Arc::new(wire::typed(answer.body, &of.kind))),
            Err(cause) => Err(self.error(operation, of, cause)),
        }
    }

    /// Sends a prepared write, with the last look at the Lease right before it.
    async fn carry_out(&self, prepared: Prepared, fence: Option<&Held>) -> Result<Object, Error> {
        let Prepared {
            operation,
            of,
            call,
            proof,
        } = prepared;
        let json_patch = call.content_type == JSON_PATCH;
        if let Some(Err(lost)) = fence.map(Held::check) {
            return Err(self.lease_lost(operation, &of, lost.to_string()));
        }
        let cause = match self.send(call).await {
            Ok(answer) => return Ok(Arc::new(with_kind(answer.body, &of.kind))),
            Err(cause) => cause,
        };
        match cause {
            Cause::Client(_) | Cause::Timeout(_) | Cause::Body(_) => {
                self.confirm(operation, &of, &proof, cause).await
            }
            Cause::Status { .. } if json_patch && is_failed_test(&cause) => {
                Err(self.error_of(operation, &of, |context| {
                    Error::of_kind(ErrorKind::Conflict, context, Some(cause))
                }))
            }
            Cause::Status { .. } | Cause::Own(_) => Err(self.error(operation, &of, cause)),
        }
    }

    /// The answer was lost: the object itself says whether the write came about.
    async fn confirm(
        &self,
        operation: &'static str,
        of: &Ref,
        proof: &Proof,
        cause: Cause,
    ) -> Result<Object, Error> {
        let now = self.get(of).await;
        tracing::warn!(cluster.name = %self.name(), object = %of, cause = %cause, "the answer to a write was lost, the object was read again");
        match now {
            Ok(Some(now)) if proof.is_shown_by(&now) => Ok(now),
            Ok(None) if matches!(proof, Proof::Gone(_)) => Ok(Arc::new(Value::Null)),
            Ok(_) | Err(_) => Err(self.error_of(operation, of, |context| {
                Error::of_kind(ErrorKind::Unconfirmed, context, Some(cause))
            })),
        }
    }

    fn check_epoch(&self, write: &Write, prepared: &Prepared, fence: &Held) -> Result<(), Error> {
        match write {
            Write::Create(_) => Ok(()),
            Write::Patch { from, .. }
            | Write::Merge { from, .. }
            | Write::Scale { from, .. }
            | Write::Delete { from } => self.check_epoch_of(from, prepared, fence),
        }
    }

    /// An object that a later holder has taken over shows that our Lease is lost, whatever we know of it.
    fn check_epoch_of(
        &self,
        object: &Value,
        prepared: &Prepared,
        fence: &Held,
    ) -> Result<(), Error> {
        match object.annotation(EPOCH) {
            Some(epoch) if number(epoch) > number(fence.epoch()) => Err(self.lease_lost(
                prepared.operation,
                &prepared.of,
                format!(
                    "the object belongs to the holder of epoch {epoch}, ours is {}",
                    fence.epoch()
                ),
            )),
            Some(_) | None => Ok(()),
        }
    }

    fn refused(&self, refused: Refused) -> Error {
        let Refused { of, cause } = refused;
        self.error("write", &of, *cause)
    }

    fn lease_lost(&self, operation: &'static str, of: &Ref, why: String) -> Error {
        self.error_of(operation, of, |context| {
            Error::of_kind(ErrorKind::LeaseLost, context, Some(Cause::Own(why)))
        })
    }
}

fn with_kind(body: Value, kind: &Kind) -> Value {
    if body["kind"].is_string() {
        body
    } else {
        wire::typed(body, kind)
    }
}

/// A 422 is either a validation error, which names the object and its fields, or a JSON Patch whose test (or path) does not fit the
/// object any more, for which the API server has this one sentence (`NewGenericServerResponse` in apimachinery).
fn is_failed_test(cause: &Cause) -> bool {
    const GENERIC: &str = "the server rejected our request due to an error in our request";
    match cause {
        Cause::Status { code, message, .. } => *code == 422 && message.starts_with(GENERIC),
        Cause::Client(_) | Cause::Timeout(_) | Cause::Body(_) | Cause::Own(_) => false,
    }
}

/// Epochs grow, so a greater one is a later holder's; what is no number is nobody's.
fn number(epoch: &str) -> u64 {
    epoch.parse().unwrap_or(0)
}
