//! One request to the service: the URL, the token, the time limit, and failed answers as errors.
//!
//! Never retries, never follows an answer that makes no sense, never lets a token into a message. A crash leaves what the
//! request did at the service.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use manifest::ObjectKey;
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody};
use object_store::gcp::GcpCredentialProvider;
use serde::de::DeserializeOwned;

use super::{errors, keys};
use crate::store::s3::keys::encode_query;
use crate::store::wire::{answer_limit, collect, cut, retry_after, set, transport_detail, transport_kind};
use crate::store::{Result, StoreError, StoreErrorKind, xml};

/// The longest answer that is not an object's body: a page of 1,000 names, every byte escaped, fits many times.
const MAX_ANSWER_BYTES: usize = 32 << 20;
/// As much of a failed answer as is read.
const MAX_FAILURE_BYTES: usize = 64 << 10;

/// A bucket at the service, and what authorises requests to it.
pub(super) struct Client {
    pub http: HttpClient,
    /// `None`: requests carry no token (public buckets).
    pub credentials: Option<GcpCredentialProvider>,
    /// `https://storage.googleapis.com`, without a trailing slash.
    pub base_url: String,
    pub bucket: String,
    /// What an error says when no credentials could be had: where they were looked for.
    pub credentials_hint: String,
    /// `gs://bucket/prefix` for messages.
    pub place: Arc<str>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The provider's own form shows a token that was given.
        f.debug_struct("Client").field("place", &self.place).field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

/// A request in the making.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// The verb for messages.
    pub operation: &'static str,
    pub method: Method,
    /// The key for messages, relative to the opened root.
    pub key: Option<&'a ObjectKey>,
    /// The path, encoded.
    path: String,
    /// Names and values, unencoded.
    query: Vec<(&'static str, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What a 404 means that does not say it.
    pub missing: StoreErrorKind,
    /// What the service is given on top of the ordinary time limit.
    pub patience: Duration,
}

impl<'a> Call<'a> {
    fn new(operation: &'static str, method: Method, path: String) -> Self {
        Self {
            operation,
            method,
            key: None,
            path,
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            missing: StoreErrorKind::NotFound,
            patience: Duration::ZERO,
        }
    }

    /// The JSON API's list of a bucket's objects.
    pub fn list(operation: &'static str, bucket: &str) -> Self {
        let mut call = Self::new(operation, Method::GET, format!("/storage/v1/b/{}/o", keys::segment(bucket)));
        call.missing = StoreErrorKind::NoBucket;
        call
    }

    /// The JSON API on an object.
    pub fn json(operation: &'static str, method: Method, bucket: &str, key: &'a ObjectKey, name: &str) -> Self {
        let path = format!("/storage/v1/b/{}/o/{}", keys::segment(bucket), keys::segment(name));
        Self { key: Some(key), ..Self::new(operation, method, path) }
    }

    /// The JSON API's copy of an object to another, whose key is for messages.
    pub fn rewrite(operation: &'static str, from: (&str, &str), to: (&str, &str), key: &'a ObjectKey) -> Self {
        let [a, b, c, d] = [from.0, from.1, to.0, to.1].map(keys::segment);
        let path = format!("/storage/v1/b/{a}/o/{b}/rewriteTo/b/{c}/o/{d}");
        Self { key: Some(key), ..Self::new(operation, Method::POST, path) }
    }

    /// The XML API on an object.
    pub fn xml(operation: &'static str, method: Method, bucket: &str, key: &'a ObjectKey, name: &str) -> Self {
        let path = format!("/{}/{}", keys::segment(bucket), keys::segment(name));
        Self { key: Some(key), ..Self::new(operation, method, path) }
    }

    /// The same with a query parameter.
    pub fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    fn url(&self, base_url: &str) -> String {
        let mut url = format!("{base_url}{}", self.path);
        for (i, (name, value)) in self.query.iter().enumerate() {
            url.push(if i == 0 { '?' } else { '&' });
            url.push_str(&encode_query(name));
            url.push('=');
            url.push_str(&encode_query(value));
        }
        url
    }
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

    /// The header that authorises a request; `None` when none is needed.
    async fn token(&self, call: &Call<'_>) -> Result<Option<HeaderValue>> {
        let Some(provider) = &self.credentials else { return Ok(None) };
        let fail = |detail| self.error(call.operation, call.key, StoreErrorKind::Credentials, detail);
        let credential = provider.get_credential().await.map_err(|error| match self.credentials_hint.is_empty() {
            true => fail(cut(&error.to_string())),
            false => fail(self.credentials_hint.clone()),
        })?;
        // A key file that says `disable_oauth` has an empty one.
        if credential.bearer.is_empty() {
            return Ok(None);
        }
        let mut value = HeaderValue::from_str(&format!("Bearer {}", credential.bearer))
            .map_err(|_| fail("the token holds characters that no header can carry".to_owned()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// Sends a request and returns whatever answer came, good or bad.
    pub async fn send(&self, call: &Call<'_>) -> Result<HttpResponse> {
        let fail = |kind, detail: String| self.error(call.operation, call.key, kind, detail);
        let mut request: HttpRequest = http::Request::builder()
            .method(call.method.clone())
            .uri(call.url(&self.base_url))
            .body(HttpRequestBody::from(call.body.clone()))
            .map_err(|error| fail(StoreErrorKind::InvalidKey, format!("no URL can name it: {error}")))?;
        *request.headers_mut() = call.headers.clone();
        if matches!(call.method, Method::PUT | Method::POST) {
            // The service answers 411 to a body of no length.
            set(request.headers_mut(), "content-length", &call.body.len().to_string());
        }
        if let Some(token) = self.token(call).await? {
            request.headers_mut().insert(http::header::AUTHORIZATION, token);
        }
        let limit = answer_limit(call.body.len(), 0) + call.patience;
        match tokio::time::timeout(limit, self.http.execute(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(fail(transport_kind(&error), transport_detail(&error))),
            Err(_) => Err(fail(StoreErrorKind::Timeout, format!("no answer in {} s", limit.as_secs()))),
        }
    }

    /// Sends a request whose answer must be a success with one of the `expected` statuses.
    pub async fn expect(&self, call: &Call<'_>, expected: &[u16]) -> Result<HttpResponse> {
        let response = self.send(call).await?;
        if expected.contains(&response.status().as_u16()) {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = self.collect(call, body, MAX_FAILURE_BYTES).await.unwrap_or_default();
        Err(self.failure_of(call, parts.status, &parts.headers, &body))
    }

    fn failure_of(&self, call: &Call<'_>, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> StoreError {
        let said = errors::said(body);
        let kind = errors::kind(status, &said, call.missing);
        let mut error = self.error(call.operation, call.key, kind, errors::detail(status, &said));
        error.retry_after = retry_after(headers);
        error
    }

    /// The whole body of an answer that is not an object's, bounded.
    async fn collect(&self, call: &Call<'_>, body: HttpResponseBody, limit: usize) -> Result<Bytes> {
        collect(body, limit).await.map_err(|(kind, detail)| self.error(call.operation, call.key, kind, detail))
    }

    /// Sends a request and reads the JSON of its good answer.
    pub async fn json<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T> {
        let response = self.expect(call, &[200]).await?;
        let body = self.collect(call, response.into_body(), MAX_ANSWER_BYTES).await?;
        serde_json::from_slice(&body).map_err(|error| {
            let detail = match xml::is_html(&body) {
                true => "an HTML page came instead of JSON: a proxy or a login page may stand between".to_owned(),
                false => cut(&format!("the answer is not the JSON that was asked for: {error}")),
            };
            self.error(call.operation, call.key, StoreErrorKind::Protocol, detail)
        })
    }

    /// The XML of a good answer.
    pub async fn xml(&self, call: &Call<'_>, response: HttpResponse, root: &str) -> Result<(HeaderMap, xml::Element)> {
        let (parts, body) = response.into_parts();
        let body = self.collect(call, body, MAX_ANSWER_BYTES).await?;
        let protocol = |detail: String| self.error(call.operation, call.key, StoreErrorKind::Protocol, detail);
        let element = xml::parse(&body).map_err(protocol)?;
        if element.name == "Error" {
            return Err(self.failure_of(call, parts.status, &parts.headers, &body));
        }
        if element.name != root {
            return Err(protocol(format!("the answer is <{}>, not <{root}>", cut(&element.name))));
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
