//! One signed request to one bucket: the URL, the signature, the time limit, and failed answers as errors.
//!
//! Never retries, never follows an answer that makes no sense, never lets a secret into a message. A crash leaves what the
//! request did at the server.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use manifest::ObjectKey;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody};

use super::{errors, keys, xml};
use crate::store::wire::{answer_limit, collect};
pub(super) use crate::store::wire::{set, text_of, unquoted};
use crate::store::{Result, StoreError, StoreErrorKind};

/// The longest answer that is not an object's body: a page of 1,000 keys of 1,024 bytes, every byte encoded, fits.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// As much of a failed answer as is read.
const MAX_FAILURE_BYTES: usize = 64 << 10;
/// A bucket at a service, and what signs requests to it.
#[derive(Debug)]
pub(super) struct Client {
    pub http: HttpClient,
    /// `None`: requests are not signed (public buckets).
    pub credentials: Option<AwsCredentialProvider>,
    pub region: String,
    /// `https://bucket.s3.region.amazonaws.com` or `http://host:port/bucket`, without a trailing slash.
    pub bucket_url: String,
    pub request_payer: bool,
    /// Sign the SHA-256 of bodies too, rather than rely on TLS and the checksum header.
    pub sign_payload: bool,
    /// What an error says when no credentials could be had: where they were looked for.
    pub credentials_hint: String,
    /// `s3://bucket/prefix` for messages.
    pub place: Arc<str>,
}

/// A request in the making.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// The verb for messages.
    pub operation: &'static str,
    pub method: Method,
    /// The key for messages, relative to the opened root.
    pub key: Option<&'a ObjectKey>,
    /// The full key; `None` for the bucket.
    pub full_key: Option<&'a str>,
    /// Names and values, unencoded.
    pub query: Vec<(&'a str, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What the server copies before it answers.
    pub copied_bytes: u64,
    /// The request carries If-Match: an answer that there is no object means that the precondition failed.
    pub conditional: bool,
}

impl<'a> Call<'a> {
    /// A request on the bucket itself.
    pub fn bucket(operation: &'static str, method: Method) -> Self {
        Self {
            operation,
            method,
            key: None,
            full_key: None,
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            copied_bytes: 0,
            conditional: false,
        }
    }

    /// A request on an object.
    pub fn object(operation: &'static str, method: Method, key: &'a ObjectKey, full_key: &'a str) -> Self {
        Self { key: Some(key), full_key: Some(full_key), ..Self::bucket(operation, method) }
    }

    /// The same with a query parameter.
    pub fn query(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }
}

/// The URL of a call: path and query encoded byte by byte (`url::Url` leaves such a URL as it is).
fn url(bucket_url: &str, call: &Call<'_>) -> String {
    let mut url = String::from(bucket_url);
    match call.full_key {
        Some(key) => {
            url.push('/');
            url.push_str(&keys::encode_path(key));
        }
        // A bucket by host name needs the slash; by path both forms mean the bucket.
        None => url.push('/'),
    }
    for (i, (name, value)) in call.query.iter().enumerate() {
        url.push(if i == 0 { '?' } else { '&' });
        url.push_str(&keys::encode_query(name));
        url.push('=');
        url.push_str(&keys::encode_query(value));
    }
    url
}

impl Client {
    /// An error of this bucket.
    pub fn error(
        &self,
        operation: &'static str,
        key: Option<&ObjectKey>,
        kind: StoreErrorKind,
        detail: impl Into<String>,
    ) -> StoreError {
        let error = StoreError::new(operation, &self.place, kind, detail);
        match key {
            Some(key) => error.on(key),
            None => error,
        }
    }

    /// Sends a request and returns whatever answer came, good or bad.
    pub async fn send(&self, call: &Call<'_>) -> Result<HttpResponse> {
        let fail = |kind, detail: String| self.error(call.operation, call.key, kind, detail);
        let mut request: HttpRequest = http::Request::builder()
            .method(call.method.clone())
            .uri(url(&self.bucket_url, call))
            .body(HttpRequestBody::from(call.body.clone()))
            .map_err(|error| fail(StoreErrorKind::InvalidKey, format!("no URL can name it: {error}")))?;
        *request.headers_mut() = call.headers.clone();
        if let Some(provider) = &self.credentials {
            let credential = provider.get_credential().await.map_err(|error| {
                let detail = if self.credentials_hint.is_empty() {
                    errors::cut(&error.to_string())
                } else {
                    self.credentials_hint.clone()
                };
                fail(StoreErrorKind::Credentials, detail)
            })?;
            // The signer would panic on a value that no header can carry.
            let token_fits = credential.token.as_deref().is_none_or(|token| HeaderValue::from_str(token).is_ok());
            let plain = |text: &str| text.bytes().all(|b| (0x20..0x7f).contains(&b));
            if !token_fits || !plain(&credential.key_id) || !plain(&self.region) {
                return Err(fail(
                    StoreErrorKind::Credentials,
                    "the access key, token or region holds characters that no header can carry".into(),
                ));
            }
            AwsAuthorizer::new(&credential, "s3", &self.region)
                .with_sign_payload(self.sign_payload || call.body.is_empty())
                .with_request_payer(self.request_payer)
                .try_authorize(&mut request, None)
                .map_err(|error| fail(StoreErrorKind::Credentials, errors::cut(&error.to_string())))?;
        }
        let limit = answer_limit(call.body.len(), call.copied_bytes);
        match tokio::time::timeout(limit, self.http.execute(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(fail(errors::transport_kind(&error), errors::transport_detail(&error))),
            Err(_) => Err(fail(StoreErrorKind::Timeout, format!("no answer in {} s", limit.as_secs()))),
        }
    }

    /// Sends a request whose answer must be a success with one of the `expected` statuses.
    pub async fn expect(&self, call: &Call<'_>, expected: &[u16]) -> Result<HttpResponse> {
        let response = self.send(call).await?;
        if expected.contains(&response.status().as_u16()) {
            return Ok(response);
        }
        Err(self.failure(call, response).await)
    }

    /// The error that a failed answer stands for.
    pub async fn failure(&self, call: &Call<'_>, response: HttpResponse) -> StoreError {
        let (parts, body) = response.into_parts();
        let body = self.collect(call, body, MAX_FAILURE_BYTES).await.unwrap_or_default();
        self.failure_of(call, parts.status, &parts.headers, &body)
    }

    /// As [`Client::failure`], of a body that was read already.
    pub fn failure_of(&self, call: &Call<'_>, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> StoreError {
        let said = errors::said(headers, body);
        let kind = errors::kind(status, &said, call.conditional);
        let mut error = self.error(call.operation, call.key, kind, errors::detail(status, &said, &self.region));
        error.retry_after = errors::retry_after(headers);
        error
    }

    /// The whole body of an answer that is not an object's, bounded.
    async fn collect(&self, call: &Call<'_>, body: HttpResponseBody, limit: usize) -> Result<Bytes> {
        collect(body, limit).await.map_err(|(kind, detail)| self.error(call.operation, call.key, kind, detail))
    }

    /// The XML of a good answer. A 200 can carry an `<Error>`: that is a failure like any other.
    pub async fn xml(&self, call: &Call<'_>, response: HttpResponse, root: &str) -> Result<(HeaderMap, xml::Element)> {
        let (parts, body) = response.into_parts();
        let body = self.collect(call, body, MAX_ANSWER_BYTES).await?;
        let protocol = |detail: String| self.error(call.operation, call.key, StoreErrorKind::Protocol, detail);
        let element = xml::parse(&body).map_err(protocol)?;
        if element.name == "Error" {
            return Err(self.failure_of(call, parts.status, &parts.headers, &body));
        }
        if element.name != root {
            return Err(protocol(format!("the answer is <{}>, not <{root}>", errors::cut(&element.name))));
        }
        Ok((parts.headers, element))
    }

    /// Reads an answer to its end so that its connection can serve the next request.
    pub async fn drain(&self, call: &Call<'_>, response: HttpResponse) -> Result<HeaderMap> {
        let (parts, body) = response.into_parts();
        self.collect(call, body, MAX_ANSWER_BYTES).await?;
        Ok(parts.headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_carry_keys_and_queries_exactly() {
        let key = ObjectKey::from("k");
        let call =
            Call::object("read", Method::GET, &key, "a//b c+%/").query("uploadId", "x/y+z=").query("uploads", "");
        assert_eq!(url("http://h:1/bucket", &call), "http://h:1/bucket/a//b%20c%2B%25/?uploadId=x%2Fy%2Bz%3D&uploads=");
        let call = Call::bucket("list", Method::GET).query("prefix", "p/ü&");
        assert_eq!(url("https://b.s3.r.amazonaws.com", &call), "https://b.s3.r.amazonaws.com/?prefix=p%2F%C3%BC%26");
    }
}
