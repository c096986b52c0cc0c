//! One signed request to one container: the URL, the signature, the time limit, and failed answers as errors.
//!
//! Never retries, never follows an answer that makes no sense, never lets a secret into a message. A crash leaves what the
//! request did at the server.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use manifest::ObjectKey;
use object_store::azure::{AzureAuthorizer, AzureCredential, AzureCredentialProvider};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody};

use super::errors;
use super::sas::AccessKey;
use crate::store::s3::keys::{encode_path, encode_query};
use crate::store::wire::{answer_limit, collect, cut, retry_after, set, transport_detail, transport_kind};
use crate::store::{Result, StoreError, StoreErrorKind, xml};

/// The longest answer that is not an object's body: a block list of 50,000 blocks and a page of 2,000 keys with 8 KiB of
/// metadata each fit.
const MAX_ANSWER_BYTES: usize = 32 << 20;
/// As much of a failed answer as is read.
const MAX_FAILURE_BYTES: usize = 64 << 10;
/// The version of the protocol that is spoken.
const API_VERSION: &str = "2023-11-03";

/// A container at a service, and what signs requests to it.
pub(super) struct Client {
    pub http: HttpClient,
    /// `None`: requests are not signed (public containers).
    pub credentials: Option<AzureCredentialProvider>,
    pub account: String,
    /// The account's key, where we were given it.
    pub access_key: Option<AccessKey>,
    pub container: String,
    /// The service that copies between its accounts: the host and port without the account.
    pub service: String,
    /// `https://account.blob.core.windows.net`, without a trailing slash: requests are signed by it.
    pub endpoint: String,
    /// Where they go instead, when the account's second location is meant.
    pub secondary: Option<String>,
    /// What an error says when no credentials could be had: where they were looked for.
    pub credentials_hint: String,
    /// `abfss://container@account.../prefix` for messages.
    pub place: Arc<str>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The provider's own form shows a credential that was given.
        f.debug_struct("Client")
            .field("place", &self.place)
            .field("container", &self.container)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
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
    /// The full key; `None` for the container.
    pub full_key: Option<&'a str>,
    /// Names and values, unencoded.
    pub query: Vec<(&'a str, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What the service copies before it answers.
    pub copied_bytes: u64,
    /// The request carries If-Match: an answer that there is no object means that the precondition failed.
    pub conditional: bool,
    /// It is about the account, not about the container.
    pub of_account: bool,
}

impl<'a> Call<'a> {
    /// A request on the container itself.
    pub fn container(operation: &'static str, method: Method) -> Self {
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
            of_account: false,
        }
        .query("restype", "container")
    }

    /// A request on the account.
    pub fn account(operation: &'static str, method: Method) -> Self {
        Self { of_account: true, query: Vec::new(), ..Self::container(operation, method) }.query("restype", "service")
    }

    /// A request on an object.
    pub fn object(operation: &'static str, method: Method, key: &'a ObjectKey, full_key: &'a str) -> Self {
        Self { key: Some(key), full_key: Some(full_key), query: Vec::new(), ..Self::container(operation, method) }
    }

    /// The same with a query parameter.
    pub fn query(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }
}

impl Client {
    /// An error of this container.
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

    /// The URL of an object, encoded byte by byte (`url::Url` leaves such a URL as it is).
    pub fn object_url(&self, full_key: &str) -> String {
        let endpoint = self.secondary.as_ref().unwrap_or(&self.endpoint);
        format!("{endpoint}/{}/{}", self.container, encode_path(full_key))
    }

    /// The URL by which a call is signed: that of the account's first location, whose name stands in what is signed.
    /// <https://learn.microsoft.com/en-us/rest/api/storageservices/authorize-with-shared-key#constructing-the-canonicalized-resource-string>
    fn url(&self, call: &Call<'_>) -> String {
        let (endpoint, container) = (&self.endpoint, &self.container);
        let mut url = match call.full_key {
            _ if call.of_account => format!("{endpoint}/"),
            Some(key) => format!("{endpoint}/{container}/{}", encode_path(key)),
            None => format!("{endpoint}/{container}"),
        };
        for (i, (name, value)) in call.query.iter().enumerate() {
            url.push(if i == 0 { '?' } else { '&' });
            url.push_str(&encode_query(name));
            url.push('=');
            url.push_str(&encode_query(value));
        }
        url
    }

    /// The credential of now; `None` when requests are not signed.
    async fn credential(&self, call: &Call<'_>) -> Result<Option<Arc<AzureCredential>>> {
        let Some(provider) = &self.credentials else { return Ok(None) };
        let fail = |detail| self.error(call.operation, call.key, StoreErrorKind::Credentials, detail);
        let credential = provider.get_credential().await.map_err(|error| match self.credentials_hint.is_empty() {
            true => fail(cut(&error.to_string())),
            false => fail(self.credentials_hint.clone()),
        })?;
        // The signer would panic on a value that no header can carry.
        let fits = match &*credential {
            AzureCredential::BearerToken(token) => HeaderValue::from_str(token).is_ok(),
            AzureCredential::AccessKey(_) | AzureCredential::SASToken(_) => true,
        };
        match fits && self.account.bytes().all(|b| b.is_ascii_graphic()) {
            true => Ok(Some(credential)),
            false => Err(fail("the account or token holds characters that no header can carry".to_owned())),
        }
    }

    /// Whether both are one account, so that whoever may write here may be known there.
    pub fn is_account_of(&self, other: &Client) -> bool {
        self.service == other.service && self.account == other.account && self.secondary == other.secondary
    }

    /// Names an object of `from`, which may be another account's container, as what the service is to read. What lets it
    /// read there is in these headers: never shown. `plain` says that within one account nothing is needed.
    pub async fn copy_from(&self, call: &mut Call<'_>, from: &Client, full_key: &str, plain: bool) -> Result<()> {
        let fail = |kind, detail: &str| self.error(call.operation, call.key, kind, detail);
        let too_long = || fail(StoreErrorKind::Other, "the source's URL fits into no header");
        let mut url = from.object_url(full_key);
        let here = plain && self.is_account_of(from);
        let mut token = None;
        let pairs = match from.credential(call).await?.as_deref() {
            Some(AzureCredential::SASToken(pairs)) => pairs.clone(),
            Some(AzureCredential::BearerToken(bearer)) if !here => {
                token = Some(HeaderValue::from_str(&format!("Bearer {bearer}")).map_err(|_| too_long())?);
                Vec::new()
            }
            Some(AzureCredential::AccessKey(_)) if !(here && self.access_key.is_some()) => {
                let key = from.access_key.as_ref().ok_or_else(|| {
                    fail(StoreErrorKind::Unsupported, "the source's account key is not known to sign a URL with")
                })?;
                key.read_one(&from.account, &from.container, full_key, jiff::Timestamp::now())
            }
            _ => Vec::new(),
        };
        for (i, (name, value)) in pairs.iter().enumerate() {
            url.push(if i == 0 { '?' } else { '&' });
            url.push_str(&encode_query(name));
            url.push('=');
            url.push_str(&encode_query(value));
        }
        let mut url = HeaderValue::from_str(&url).map_err(|_| too_long())?;
        url.set_sensitive(true);
        call.headers.insert("x-ms-copy-source", url);
        if let Some(mut token) = token {
            token.set_sensitive(true);
            call.headers.insert("x-ms-copy-source-authorization", token);
        }
        Ok(())
    }

    /// Sends a request and returns whatever answer came, good or bad.
    pub async fn send(&self, call: &Call<'_>) -> Result<HttpResponse> {
        let fail = |kind, detail: String| self.error(call.operation, call.key, kind, detail);
        let mut request: HttpRequest = http::Request::builder()
            .method(call.method.clone())
            .uri(self.url(call))
            .body(HttpRequestBody::from(call.body.clone()))
            .map_err(|error| fail(StoreErrorKind::InvalidKey, format!("no URL can name it: {error}")))?;
        *request.headers_mut() = call.headers.clone();
        if call.method == Method::PUT {
            // The signature covers it, so it cannot be left to the HTTP client.
            set(request.headers_mut(), "content-length", &call.body.len().to_string());
        }
        set(request.headers_mut(), "x-ms-version", API_VERSION);
        if let Some(credential) = self.credential(call).await? {
            AzureAuthorizer::new(&credential, &self.account)
                .try_authorize(&mut request)
                .map_err(|error| fail(StoreErrorKind::Credentials, cut(&error.to_string())))?;
        }
        if let Some(secondary) = &self.secondary {
            let text = request.uri().to_string();
            let there = text.strip_prefix(&self.endpoint).map(|rest| format!("{secondary}{rest}").parse());
            match there {
                Some(Ok(uri)) => *request.uri_mut() = uri,
                _ => return Err(fail(StoreErrorKind::Other, "no URL names it at the second location".to_owned())),
            }
        }
        let limit = answer_limit(call.body.len(), call.copied_bytes);
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
        Err(self.failure(call, response).await)
    }

    /// The headers of what stands under a key.
    pub async fn look(&self, key: &ObjectKey, full_key: &str) -> Result<HeaderMap> {
        let call = Call::object("look at", Method::HEAD, key, full_key);
        Ok(self.expect(&call, &[200]).await?.headers().clone())
    }

    /// The error that a failed answer stands for.
    pub async fn failure(&self, call: &Call<'_>, response: HttpResponse) -> StoreError {
        let (parts, body) = response.into_parts();
        let body = self.collect(call, body, MAX_FAILURE_BYTES).await.unwrap_or_default();
        self.failure_of(call, parts.status, &parts.headers, &body)
    }

    fn failure_of(&self, call: &Call<'_>, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> StoreError {
        let said = errors::said(headers, body);
        let kind = errors::kind(status, &said, call.conditional);
        let mut error = self.error(call.operation, call.key, kind, errors::detail(status, &said));
        error.retry_after = retry_after(headers);
        error
    }

    /// The whole body of an answer that is not an object's, bounded.
    async fn collect(&self, call: &Call<'_>, body: HttpResponseBody, limit: usize) -> Result<Bytes> {
        collect(body, limit).await.map_err(|(kind, detail)| self.error(call.operation, call.key, kind, detail))
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
