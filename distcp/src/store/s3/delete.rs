//! DeleteObjects, a thousand keys a request, each answered for by name; one by one where the server has no such thing.
//!
//! Never counts a key as deleted that no answer named. A crash leaves some keys deleted and the others there.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, StatusCode};
use manifest::ObjectKey;

use super::client::{Call, set};
use super::{S3Store, checksum, errors, xml};
use crate::store::{Result, StoreError, StoreErrorKind};

/// Single DELETE requests at a time, where a batch is not possible.
const SINGLE_DELETES: usize = 8;

impl S3Store {
    pub(super) async fn delete_objects(&self, keys: &[ObjectKey]) -> Vec<Result<()>> {
        let mut answers: Vec<Option<Result<()>>> = Vec::new();
        // Full keys that one DeleteObjects can carry, with the position that they answer for.
        let mut batch: HashMap<String, usize> = HashMap::new();
        let mut single: Vec<usize> = Vec::new();
        for (i, key) in keys.iter().enumerate() {
            match self.full_key("delete", key) {
                Err(error) => answers.push(Some(Err(error))),
                Ok(full) => {
                    answers.push(None);
                    if xml::can_hold(&full) && !batch.contains_key(&full) {
                        batch.insert(full, i);
                    } else {
                        single.push(i);
                    }
                }
            }
        }
        if batch.len() < 2 || self.single_deletes.load(Ordering::Relaxed) {
            single.extend(batch.drain().map(|(_, i)| i));
        } else {
            match self.delete_batch(&batch).await {
                Ok(mut named) => {
                    for (full, i) in batch {
                        match named.remove(&full) {
                            Some(answer) => answers[i] = Some(answer.map_err(|error| error.on(&keys[i]))),
                            // Not named: nobody knows; ask again by itself.
                            None => single.push(i),
                        }
                    }
                }
                Err(error) if cannot_batch(&error) => {
                    self.single_deletes.store(true, Ordering::Relaxed);
                    single.extend(batch.into_values());
                }
                Err(error) => {
                    for i in batch.into_values() {
                        let mut same = StoreError::new(error.operation, &error.place, error.kind, error.detail.clone());
                        same.retry_after = error.retry_after;
                        answers[i] = Some(Err(same.on(&keys[i])));
                    }
                }
            }
        }
        let mut singles =
            futures::stream::iter(single.into_iter().map(|i| async move { (i, self.delete_one(&keys[i]).await) }))
                .buffer_unordered(SINGLE_DELETES);
        while let Some((i, answer)) = singles.next().await {
            answers[i] = Some(answer);
        }
        drop(singles);
        answers
            .into_iter()
            .zip(keys)
            .map(|(answer, key)| {
                answer.unwrap_or_else(|| Err(self.error("delete", key, StoreErrorKind::Protocol, "no answer named it")))
            })
            .collect()
    }

    /// One DeleteObjects; what the answer says of each key that it names.
    async fn delete_batch(&self, batch: &HashMap<String, usize>) -> Result<HashMap<String, Result<()>>> {
        let mut body = String::from("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        for key in batch.keys() {
            body.push_str("<Object><Key>");
            xml::escape_into(&mut body, key);
            body.push_str("</Key></Object>");
        }
        body.push_str("</Delete>");
        let mut call = Call::bucket("delete from", Method::POST).query("delete", "");
        set(&mut call.headers, "content-type", "application/xml");
        set(&mut call.headers, "content-md5", &checksum::md5_base64(body.as_bytes()));
        call.body = Bytes::from(body);
        let response = self.client.expect(&call, &[200]).await?;
        let (headers, root) = self.client.xml(&call, response, "DeleteResult").await?;
        let mut named = HashMap::new();
        let mut failed = HashSet::new();
        for error in root.all("Error") {
            let said = errors::Said {
                code: error.text_of("Code").unwrap_or_default().to_owned(),
                message: error.text_of("Message").unwrap_or_default().to_owned(),
                ..errors::Said::default()
            };
            let key = error.text_of("Key").unwrap_or_default().to_owned();
            if matches!(said.code.as_str(), "NoSuchKey" | "NoSuchVersion") {
                named.insert(key, Ok(()));
                continue;
            }
            let kind = errors::kind(StatusCode::BAD_REQUEST, &said, false);
            let mut detail = errors::cut(&format!("{}: {}", said.code, said.message));
            if detail == ": " {
                detail = "the server gives no reason".into();
            }
            let mut failure = StoreError::new("delete", &self.client.place, kind, detail);
            failure.retry_after = errors::retry_after(&headers);
            failed.insert(key.clone());
            named.insert(key, Err(failure));
        }
        for deleted in root.all("Deleted") {
            if let Some(key) = deleted.text_of("Key")
                && !failed.contains(key)
            {
                named.insert(key.to_owned(), Ok(()));
            }
        }
        Ok(named)
    }

    async fn delete_one(&self, key: &ObjectKey) -> Result<()> {
        let full = self.full_key("delete", key)?;
        let call = Call::object("delete", Method::DELETE, key, &full);
        match self.client.expect(&call, &[200, 202, 204]).await {
            Ok(response) => self.client.drain(&call, response).await.map(drop),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Whether the server answers that it knows no DeleteObjects.
fn cannot_batch(error: &StoreError) -> bool {
    error.kind == StoreErrorKind::Unsupported || error.detail.contains("MalformedXML")
}
