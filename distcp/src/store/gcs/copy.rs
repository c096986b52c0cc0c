//! Copying inside the service by `rewrite`: objects of any size, from any bucket that the same login may read.
//!
//! Conditional on the generation of the source, and on that of the target if asked for. The service copies large objects in
//! steps; a crash between two of them leaves nothing but a token that expires.

use std::time::Duration;

use bytes::Bytes;
use manifest::{EntryKind, ObjectKey};
use serde::Deserialize;

use super::client::Call;
use super::read::generation_of;
use super::resource::{Described, Resource};
use super::{GcsStore, keys};
use crate::store::wire::{cut, set};
use crate::store::{CopySource, Origin, Proof, PutOptions, Result, StoreErrorKind, Written};

/// What a step is given on top of the ordinary time limit: the service may take half a minute for each.
const STEP_PATIENCE: Duration = Duration::from_secs(60);
/// Steps of one copy, at most: of the smallest, 1 MiB, enough for the largest object.
const MAX_STEPS: u32 = 5 << 20;

/// The answer to a step.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Step {
    total_bytes_rewritten: String,
    done: bool,
    rewrite_token: Option<String>,
    resource: Option<Resource>,
}

impl GcsStore {
    pub(super) async fn copy_object(
        &self,
        source: &CopySource<'_>,
        to: &ObjectKey,
        options: &PutOptions,
    ) -> Result<Written> {
        let (here, expect, key) = (self.here(), source.expect, source.key);
        let from = match source.origin {
            None => &here,
            Some(Origin::Gcs(other)) => other,
            Some(_) => {
                return Err(self.error("copy", key, StoreErrorKind::Unsupported, "it is on another service"));
            }
        };
        let name = keys::full_key(&from.prefix, key)
            .map_err(|why| self.error("copy", key, StoreErrorKind::InvalidKey, why))?;
        let target = self.full_key("copy to", to)?;
        let headers = self.headers_of("copy to", to, options)?;
        let generation = match generation_of(expect) {
            Some(generation) => generation.to_owned(),
            None => self.looks_like("copy", key, &from.bucket, &name, expect).await?,
        };
        let mut described = Described::from_headers(&headers);
        let replace = !source.keep_attributes && (!options.attributes.is_empty() || options.kind == EntryKind::Symlink);
        if !replace && described != Described::default() {
            // Whatever is sent replaces all that the source has: what shall stay is sent, too.
            let class = described.storage_class.take();
            described = self.look("copy", key, &from.bucket, &name, Some(&generation)).await?.described;
            described.storage_class = class;
        }
        let condition = self.condition("copy to", to, &target, &options.precondition).await?;
        let body = match replace || described != Described::default() {
            true => serde_json::to_vec(&described)
                .map_err(|error| self.error("copy to", to, StoreErrorKind::Other, error.to_string()))?,
            false => Vec::new(),
        };
        let body = Bytes::from(body);
        let mut token: Option<String> = None;
        let mut moved = 0u64;
        for _ in 0..MAX_STEPS {
            let mut call = Call::rewrite("copy to", (&from.bucket, &name), (&self.client.bucket, &target), to)
                .query("ifSourceGenerationMatch", generation.clone());
            if let Some(condition) = &condition {
                call = call.query("ifGenerationMatch", condition.clone());
            }
            if let Some(kms_key) = &self.kms_key {
                call = call.query("destinationKmsKeyName", kms_key.clone());
            }
            if let Some(token) = &token {
                call = call.query("rewriteToken", token.clone());
            }
            if !body.is_empty() {
                set(&mut call.headers, "content-type", "application/json");
                call.body = body.clone();
            }
            call.patience = STEP_PATIENCE;
            let step: Step = self.client.json(&call).await?;
            let protocol = |detail: String| self.error("copy to", to, StoreErrorKind::Protocol, detail);
            if step.done {
                let resource = step.resource.ok_or_else(|| protocol("the answer names no object".into()))?;
                let fingerprint = resource.fingerprint().map_err(protocol)?;
                if fingerprint.size_bytes != expect.size_bytes {
                    let detail = format!("{} bytes were copied of {}", fingerprint.size_bytes, expect.size_bytes);
                    return Err(self.error("copy to", to, StoreErrorKind::Corrupt, detail));
                }
                return Ok(Written { fingerprint, proof: Proof::None });
            }
            let now: u64 = step.total_bytes_rewritten.parse().unwrap_or(0);
            if now <= moved || step.rewrite_token.is_none() {
                return Err(protocol(cut(&format!("the copy stands still at {now} of {} bytes", expect.size_bytes))));
            }
            moved = now;
            token = step.rewrite_token;
        }
        Err(self.error("copy to", to, StoreErrorKind::Protocol, "the copy has no end"))
    }
}
