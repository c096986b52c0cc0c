//! Deleting: one request a key, several at a time, each answered for.
//!
//! A batch request would carry 100 keys, and counts as 100 calls all the same. Never counts a key as deleted that the
//! service did not answer for. A crash leaves some keys deleted and the others there.

use futures::StreamExt as _;
use http::Method;
use manifest::ObjectKey;

use super::GcsStore;
use super::client::Call;
use crate::store::{Result, StoreErrorKind};

/// DELETE requests at a time.
const DELETES_AT_ONCE: usize = 16;

impl GcsStore {
    pub(super) async fn delete_objects(&self, keys: &[ObjectKey]) -> Vec<Result<()>> {
        futures::stream::iter((0..keys.len()).map(|i| self.delete_one(&keys[i])))
            .buffered(DELETES_AT_ONCE)
            .collect()
            .await
    }

    async fn delete_one(&self, key: &ObjectKey) -> Result<()> {
        let name = self.full_key("delete", key)?;
        let call = Call::json("delete", Method::DELETE, &self.client.bucket, key, &name);
        match self.client.expect(&call, &[200, 204]).await {
            Ok(response) => self.client.drain(&call, response).await.map(drop),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}
