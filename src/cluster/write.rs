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
    wire::{self, Call},
};
use crate::api::{
    names::{EPOCH, MANAGER},
    objects::{
        ALERT_PROVIDER, CANARY, CONTROLLER_REVISION, DEPLOYMENT, DESTINATION_RULE, EVENT, Kind,
        LEASE, METRIC_TEMPLATE, NAMESPACE, Object, ObjectExt, POD, REPLICA_SET, Ref, SCALED_OBJECT,
        SERVICE, VIRTUAL_SERVICE, Write,
    },
};

/// A write may take this long, in real time. Sent at most 10 s after a renewal, it has arrived or failed before the Lease's 15 s are over.
const WRITE_WITHIN: Duration = Duration::from_secs(5);
/// Pointer of the epoch annotation (RFC 6901).
const EPOCH_POINTER: &str = "/metadata/annotations/canary-mcp.dev~1epoch";
const JSON: &str = "application/json";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// One write as it goes on the wire, and how a re-read shows that it came about.
struct Prepared {
    operation: &'static str,
    of: Ref,
    call: Call,
    proof: Proof,
}

/// The kinds that we write.
const KINDS: [Kind; 14] = [
    CANARY,
    METRIC_TEMPLATE,
    ALERT_PROVIDER,
    DEPLOYMENT,
    REPLICA_SET,
    CONTROLLER_REVISION,
    POD,
    SERVICE,
    NAMESPACE,
    EVENT,
    LEASE,
    SCALED_OBJECT,
    VIRTUAL_SERVICE,
    DESTINATION_RULE,
];

/// What the object must look like when the answer to a write was lost.
enum Proof {
    /// The created object: everything in it is there.
    Contains(Value),
    /// These places are as they are in `expected` (absent where absent there), of an object with this uid.
    Places {
        uid: String,
        expected: Value,
        pointers: Vec<String>,
    },
    /// The object with this uid is gone or going.
    Gone(String),
}

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
    /// `Unreachable` when nothing was sent, `Unconfirmed` when the answer was lost and the object does not show the result.
    pub async fn write(&self, write: &Write, fence: Option<&Held>) -> Result<Object, Error> {
        let prepared = prepare(write, fence);
        let prepared = prepared.map_err(|(of, cause)| self.error("write", &of, cause))?;
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
        let of = ref_of(object).map_err(|(of, cause)| self.error("update", &of, cause))?;
        let item = wire::item(&of).map_err(|cause| self.error("update", &of, cause))?;
        let path = with_manager(&format!("{item}/status"));
        let prepared = Prepared {
            operation: "update",
            call: Call::write(Method::PUT, path, JSON, object, WRITE_WITHIN),
            proof: Proof::Places {
                uid: object.uid().to_owned(),
                expected: object.clone(),
                pointers: vec!["/status".to_owned()],
            },
            of,
        };
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
        let of = ref_of(object).map_err(|(of, cause)| self.error("patch", &of, cause))?;
        let mut ops = vec![
            test("/metadata/uid", json!(object.uid())),
            test(
                "/metadata/resourceVersion",
                json!(object.resource_version()),
            ),
        ];
        if object["metadata"]["annotations"].is_object() {
            ops.push(json!({"op": "add", "path": EPOCH_POINTER, "value": fence.epoch()}));
        } else {
            ops.push(json!({"op": "add", "path": "/metadata/annotations", "value": {EPOCH: fence.epoch()}}));
        }
        let expected = json!({"metadata": {"annotations": {EPOCH: fence.epoch()}}});
        let item = wire::item(&of).map_err(|cause| self.error("patch", &of, cause))?;
        let prepared = Prepared {
            operation: "patch",
            call: Call::write(
                Method::PATCH,
                with_manager(&item),
                JSON_PATCH,
                &Value::Array(ops),
                WRITE_WITHIN,
            ),
            proof: Proof::Places {
                uid: object.uid().to_owned(),
                expected,
                pointers: vec![EPOCH_POINTER.to_owned()],
            },
            of,
        };
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

    /// Merge-patches an object without any precondition and without a fence. For event series.
    pub(super) async fn merge(
        &self,
        of: &Ref,
        patch: &Value,
        within: Duration,
    ) -> Result<Object, Error> {
        let path = wire::item(of).map_err(|cause| self.error("patch", of, cause))?;
        let call = Call::write(
            Method::PATCH,
            with_manager(&path),
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
        match (now, proof) {
            (Ok(Some(now)), Proof::Contains(made)) if contains(&now, made) => Ok(now),
            (
                Ok(Some(now)),
                Proof::Places {
                    uid,
                    expected,
                    pointers,
                },
            ) if now.uid() == uid
                && pointers
                    .iter()
                    .all(|pointer| now.pointer(pointer) == expected.pointer(pointer)) =>
            {
                Ok(now)
            }
            (Ok(Some(now)), Proof::Gone(uid))
                if now.uid() != uid || now.str_at("/metadata/deletionTimestamp").is_some() =>
            {
                Ok(now)
            }
            (Ok(None), Proof::Gone(uid)) => Ok(Arc::new(json!({"metadata": {"uid": uid}}))),
            (Ok(_) | Err(_), _) => Err(self.error_of(operation, of, |context| {
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

    fn lease_lost(&self, operation: &'static str, of: &Ref, why: String) -> Error {
        self.error_of(operation, of, |context| {
            Error::of_kind(ErrorKind::LeaseLost, context, Some(Cause::Own(why)))
        })
    }
}

fn prepare(write: &Write, fence: Option<&Held>) -> Result<Prepared, (Ref, Cause)> {
    match write {
        Write::Create(object) => {
            let of = ref_of(object)?;
            let path = with_manager(&wire::collection(&of.kind, Some(&of.namespace)));
            Ok(Prepared {
                operation: "create",
                call: Call::write(Method::POST, path, JSON, object, WRITE_WITHIN),
                proof: Proof::Contains(object.clone()),
                of,
            })
        }
        Write::Patch { from, ops } => prepare_patch(from, ops, fence),
        Write::Merge { from, patch } => prepare_merge(from, patch),
        Write::Scale { from, replicas } => prepare_scale(from, *replicas),
        Write::Delete { from } => {
            let (of, path) = place(from)?;
            let options = json!({
                "apiVersion": "v1",
                "kind": "DeleteOptions",
                "preconditions": {"uid": from.uid()},
                "propagationPolicy": "Background",
            });
            Ok(Prepared {
                operation: "delete",
                call: Call::write(Method::DELETE, path, JSON, &options, WRITE_WITHIN),
                proof: Proof::Gone(from.uid().to_owned()),
                of,
            })
        }
    }
}

fn prepare_patch(
    from: &Object,
    ops: &[Value],
    fence: Option<&Held>,
) -> Result<Prepared, (Ref, Cause)> {
    let (of, path) = place(from)?;
    let mut all = vec![test("/metadata/uid", json!(from.uid()))];
    match from.generation() {
        Some(generation) => all.push(test("/metadata/generation", json!(generation))),
        None => all.push(test(
            "/metadata/resourceVersion",
            json!(from.resource_version()),
        )),
    }
    if let (Some(epoch), Some(fence)) = (from.annotation(EPOCH), fence) {
        all.push(test(EPOCH_POINTER, json!(epoch)));
        if epoch != fence.epoch() {
            all.push(json!({"op": "replace", "path": EPOCH_POINTER, "value": fence.epoch()}));
        }
    }
    all.extend(ops.iter().cloned());
    let mut expected = Value::clone(from);
    let applied = serde_json::from_value::<json_patch::Patch>(Value::Array(ops.to_vec()))
        .map_err(|error| format!("{ops:?} is no JSON Patch: {error}"))
        .and_then(|patch| {
            json_patch::patch(&mut expected, &patch)
                .map_err(|error| format!("the patch does not fit the object: {error}"))
        });
    if let Err(error) = applied {
        return Err((of, Cause::Own(error)));
    }
    let pointers = touched(from, ops);
    Ok(Prepared {
        operation: "patch",
        call: Call::write(
            Method::PATCH,
            with_manager(&path),
            JSON_PATCH,
            &Value::Array(all),
            WRITE_WITHIN,
        ),
        proof: Proof::Places {
            uid: from.uid().to_owned(),
            expected,
            pointers,
        },
        of,
    })
}

fn prepare_merge(from: &Object, patch: &Value) -> Result<Prepared, (Ref, Cause)> {
    let (of, path) = place(from)?;
    let mut sent = patch.clone();
    let own = json!({"metadata": {"resourceVersion": from.resource_version()}});
    json_patch::merge(&mut sent, &own);
    let mut expected = Value::clone(from);
    json_patch::merge(&mut expected, patch);
    let mut pointers = Vec::new();
    leaves(patch, "", &mut pointers);
    Ok(Prepared {
        operation: "patch",
        call: Call::write(
            Method::PATCH,
            with_manager(&path),
            MERGE_PATCH,
            &sent,
            WRITE_WITHIN,
        ),
        proof: Proof::Places {
            uid: from.uid().to_owned(),
            expected,
            pointers,
        },
        of,
    })
}

fn prepare_scale(from: &Object, replicas: u32) -> Result<Prepared, (Ref, Cause)> {
    let (of, path) = place(from)?;
    let scale = json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {
            "name": from.name(),
            "namespace": from.namespace(),
            "resourceVersion": from.resource_version(),
            "uid": from.uid(),
        },
        "spec": {"replicas": replicas},
    });
    Ok(Prepared {
        operation: "update",
        call: Call::write(
            Method::PUT,
            with_manager(&format!("{path}/scale")),
            JSON,
            &scale,
            WRITE_WITHIN,
        ),
        proof: Proof::Places {
            uid: from.uid().to_owned(),
            expected: json!({"spec": {"replicas": replicas}}),
            pointers: vec!["/spec/replicas".to_owned()],
        },
        of,
    })
}

fn place(object: &Value) -> Result<(Ref, String), (Ref, Cause)> {
    let of = ref_of(object)?;
    match wire::item(&of) {
        Ok(path) => Ok((of, path)),
        Err(cause) => Err((of, cause)),
    }
}

/// Names an object by what is in it; its kind must be one of ours.
fn ref_of(object: &Value) -> Result<Ref, (Ref, Cause)> {
    let api_version = object.str_at("/apiVersion").unwrap_or_default();
    let name = object.str_at("/kind").unwrap_or_default();
    let of = |kind| Ref {
        kind,
        namespace: object.namespace().to_owned(),
        name: object.name().to_owned(),
    };
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let kind = KINDS
        .into_iter()
        .find(|kind| kind.group == group && kind.kind == name);
    kind.map(of).ok_or_else(|| {
        let unknown = Kind {
            group: "",
            version: "",
            kind: "object",
            plural: "",
        };
        let cause = Cause::Own(format!("{api_version} {name} is no kind that we write"));
        (of(unknown), cause)
    })
}

fn with_manager(path: &str) -> String {
    wire::with_query(path, &[("fieldManager", Some(MANAGER))])
}

fn with_kind(body: Value, kind: &Kind) -> Value {
    if body["kind"].is_string() {
        body
    } else {
        wire::typed(body, kind)
    }
}

fn test(path: &str, value: Value) -> Value {
    json!({"op": "test", "path": path, "value": value})
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

/// The places that `ops` change. Inside an array positions move, so there it is the whole array.
fn touched(from: &Value, ops: &[Value]) -> Vec<String> {
    let changing = ops
        .iter()
        .filter(|op| op["op"] != "test")
        .flat_map(|op| ["path", "from"].map(|field| op[field].as_str()))
        .flatten();
    changing
        .map(|pointer| {
            let parents = pointer
                .match_indices('/')
                .skip(1)
                .map(|(at, _)| &pointer[..at]);
            let array = parents
                .into_iter()
                .find(|parent| from.pointer(parent).is_some_and(Value::is_array));
            array.unwrap_or(pointer).to_owned()
        })
        .collect()
}

/// Pointers of everything that a merge patch sets or takes away.
fn leaves(patch: &Value, at: &str, pointers: &mut Vec<String>) {
    match patch.as_object() {
        Some(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                leaves(value, &format!("{at}/{name}"), pointers);
            }
        }
        Some(_) | None => pointers.push(at.to_owned()),
    }
}

/// Everything in `made` is in `now`; the API server adds defaults.
fn contains(now: &Value, made: &Value) -> bool {
    match (now, made) {
        (Value::Object(now), Value::Object(made)) => made
            .iter()
            .all(|(name, made)| now.get(name).is_some_and(|now| contains(now, made))),
        (Value::Array(now), Value::Array(made)) => {
            now.len() == made.len() && now.iter().zip(made).all(|(now, made)| contains(now, made))
        }
        _ => now == made,
    }
}
