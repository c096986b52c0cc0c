//! Deleting: one request a key, several at a time, each answered for.
//!
//! Blob Batch would carry 256 keys a request, but not with every kind of SAS, and counts as 256 operations all the same.
//! Never counts a key as deleted that the service did not answer for. A crash leaves some keys deleted and the others there.

use futures::StreamExt as _;
use http::Method;
use manifest::ObjectKey;

use super::AzureStore;
use super::client::Call;
use crate::store::{Result, StoreErrorKind};

/// DELETE requests at a time.
const DELETES_AT_ONCE: usize = 16;

impl AzureStore {
    pub(super) async fn delete_objects(&self, keys: &[ObjectKey]) -> Vec<Result<()>> {
        futures::stream::iter((0..keys.len()).map(|i| self.delete_one(&keys[i])))
            .buffered(DELETES_AT_ONCE)
            .collect()
            .await
    }

    async fn delete_one(&self, key: &ObjectKey) -> Result<()> {
        let full = self.full_key("delete", key)?;
        let call = Call::object("delete", Method::DELETE, key, &full);
        match self.client.expect(&call, &[200, 202]).await {
            Ok(response) => self.client.drain(&call, response).await.map(drop),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}
