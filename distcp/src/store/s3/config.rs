//! Opening a bucket from options whose names are object_store's.
//!
//! Reads no environment and no file: what is not in the options is not known, except that without keys object_store's
//! providers ask the container's or the instance's role service when the first request is signed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use manifest::ObjectKey;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{ClientConfigKey, HttpConnector as _, ReqwestConnector};
use object_store::{BackoffConfig, Certificate, ClientOptions, RetryConfig};

use super::checksum::{self, Algorithm};
use super::client::Client;
use super::{Capabilities, DELETE_BATCH, MAX_COPY_BYTES, MAX_PUT_BYTES, S3Origin, S3Store, keys};
use crate::store::normal_service;

/// The region that requests are signed for when none is known.
const DEFAULT_REGION: &str = "us-east-1";
/// How long making a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The least that `max_copy_bytes` may be: parts of copies are no larger, and S3 takes none below 5 MiB.
const MIN_COPY_LIMIT: u64 = 8 << 20;

/// What a bucket is opened with.
#[derive(Default)]
pub struct S3Config {
    /// Name of the bucket.
    pub bucket: String,
    /// Full key below which the store's keys lie, without slashes at its ends being added or taken; empty for all.
    pub prefix: ObjectKey,
    /// Options by object_store's names (with or without `aws_`), among them the credentials. Also `storage_class`, and
    /// `max_copy_bytes` for servers that take less than S3 does in one copy.
    pub options: BTreeMap<String, String>,
    /// PEM certificates to trust besides the system's.
    pub ca_bundle: Option<Vec<u8>>,
    /// What an error says when no credentials could be had: where they were looked for.
    pub credentials_hint: String,
}

impl std::fmt::Debug for S3Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.options.keys().collect();
        f.debug_struct("S3Config")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("options", &names)
            .finish_non_exhaustive()
    }
}

/// Options with which no bucket can be opened. Names the option, never a secret's value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct BadS3Config(pub String);

/// Options by their canonical key, as text.
struct Options(BTreeMap<String, String>);

impl Options {
    fn text(&self, key: AmazonS3ConfigKey) -> Option<&str> {
        self.0.get(key.as_ref()).map(String::as_str)
    }

    fn flag(&self, key: AmazonS3ConfigKey) -> Result<Option<bool>, BadS3Config> {
        let Some(text) = self.text(key) else { return Ok(None) };
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" | "y" => Ok(Some(true)),
            "false" | "0" | "no" | "off" | "n" => Ok(Some(false)),
            other => Err(BadS3Config(format!("{} is true or false, not {other:?}", key.as_ref()))),
        }
    }
}

impl S3Store {
    /// Opens a bucket below a prefix. Sends nothing.
    pub fn open(config: S3Config) -> Result<Self, BadS3Config> {
        let S3Config { bucket, prefix, options, ca_bundle, credentials_hint } = config;
        let prefix_text = prefix.as_str().ok_or_else(|| BadS3Config("the prefix is not UTF-8".into()))?;
        if keys::has_dot_segment(prefix_text) {
            return Err(BadS3Config("the prefix has a . or .. segment, which would name another place".into()));
        }
        let (mut storage_class, mut max_copy_bytes) = (None, MAX_COPY_BYTES);
        let mut known = BTreeMap::new();
        let mut builder = AmazonS3Builder::new().with_bucket_name(&bucket).with_retry(metadata_retries());
        let mut client_options = ClientOptions::new().with_timeout_disabled().with_connect_timeout(CONNECT_TIMEOUT);
        for (name, value) in options {
            if name == "storage_class" {
                storage_class = Some(value);
                continue;
            }
            if name == "max_copy_bytes" {
                max_copy_bytes = copy_limit(&value).map_err(BadS3Config)?.min(MAX_COPY_BYTES);
                continue;
            }
            let key: AmazonS3ConfigKey =
                name.parse().map_err(|_| BadS3Config(format!("{name:?} is no option of an S3 store")))?;
            match key {
                AmazonS3ConfigKey::Bucket => {
                    return Err(BadS3Config("the bucket stands in the URL, not in the options".into()));
                }
                // Ours alone: object_store knows other checksums than we do.
                AmazonS3ConfigKey::Checksum => {}
                AmazonS3ConfigKey::Client(key) => {
                    client_options = client_options.with_config(key, value.clone());
                    builder = builder.with_config(AmazonS3ConfigKey::Client(key), value.clone());
                }
                key => builder = builder.with_config(key, value.clone()),
            }
            known.insert(key.as_ref().to_owned(), value);
        }
        let options = Options(known);
        if options.flag(AmazonS3ConfigKey::S3Express)? == Some(true) {
            return Err(BadS3Config("directory buckets (s3_express) are not supported: they list in no order".into()));
        }
        let region = options
            .text(AmazonS3ConfigKey::Region)
            .or(options.text(AmazonS3ConfigKey::DefaultRegion))
            .unwrap_or(DEFAULT_REGION)
            .to_owned();
        let endpoint = options.text(AmazonS3ConfigKey::S3Endpoint).or(options.text(AmazonS3ConfigKey::Endpoint));
        let virtual_hosted = options.flag(AmazonS3ConfigKey::VirtualHostedStyleRequest)?;
        let bucket_url = bucket_url(endpoint, &bucket, &region, virtual_hosted)?;
        let http = bucket_url.starts_with("http://");
        let allowed = options.flag(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp))?;
        if http && allowed == Some(false) {
            return Err(BadS3Config("the endpoint is http://, which allow_http = false forbids".into()));
        }
        if http {
            client_options = client_options.with_allow_http(true);
            builder = builder.with_allow_http(true);
        } else if let Some(pem) = ca_bundle {
            let certificates = Certificate::from_pem_bundle(&pem)
                .map_err(|_| BadS3Config("the CA bundle holds no PEM certificates".into()))?;
            for certificate in certificates {
                client_options = client_options.with_root_certificate(certificate);
            }
        }
        let skip_signature = options.flag(AmazonS3ConfigKey::SkipSignature)?.unwrap_or(false);
        let credentials = if skip_signature {
            None
        } else {
            // The region and URL are ours; the builder is asked for its credential provider only.
            let built = builder.build().map_err(|error| unfit(&options, &error))?;
            Some(built.credentials().clone())
        };
        let checksum = match options.text(AmazonS3ConfigKey::Checksum) {
            None => Some(Algorithm::Crc64Nvme),
            Some(name) if name.eq_ignore_ascii_case("none") => None,
            Some(name) => Some(Algorithm::from_name(name).ok_or_else(|| {
                BadS3Config(format!("checksum_algorithm is crc64nvme, crc32c or none, not {name:?}"))
            })?),
        };
        // Over TLS the body is protected; without TLS the signed checksum header protects it, where there is one.
        let sign_payload = match options.flag(AmazonS3ConfigKey::UnsignedPayload)? {
            Some(unsigned) => !unsigned,
            None => http && checksum.is_none(),
        };
        let conditional = options.text(AmazonS3ConfigKey::ConditionalPut) != Some("disabled");
        let place: Arc<str> = if prefix.is_empty() {
            format!("s3://{bucket}").into()
        } else {
            format!("s3://{bucket}/{}", prefix.escaped()).into()
        };
        let encryption = encryption(&options)?;
        let mut write_headers = encryption.write;
        if let Some(class) = storage_class {
            write_headers.insert(HeaderName::from_static("x-amz-storage-class"), visible("storage_class", &class)?);
        }
        let http_client =
            ReqwestConnector::default().connect(&client_options).map_err(|error| unfit(&options, &error))?;
        let request_payer = match options.text(AmazonS3ConfigKey::RequestPayer) {
            Some(text) if text.eq_ignore_ascii_case("requester") => true,
            _ => options.flag(AmazonS3ConfigKey::RequestPayer)?.unwrap_or(false),
        };
        let origin = S3Origin {
            service: service(endpoint, &bucket, &region),
            bucket,
            prefix: prefix.clone(),
            customer_key: encryption.copy_customer,
            request_payer,
        };
        Ok(S3Store {
            client: Arc::new(Client {
                http: http_client,
                credentials,
                region,
                bucket_url,
                request_payer,
                sign_payload,
                credentials_hint,
                place,
            }),
            origin,
            prefix,
            capabilities: capabilities(conditional, max_copy_bytes),
            checksum,
            write_headers,
            customer_key: encryption.customer,
            untold_checksums: Default::default(),
            probes: Default::default(),
            single_deletes: options.flag(AmazonS3ConfigKey::DisableBulkDelete)?.unwrap_or(false).into(),
        })
    }
}

/// The error of a client that cannot be made. object_store does not say by which option: each is tried alone.
fn unfit(options: &Options, error: &object_store::Error) -> BadS3Config {
    let spoils = |name: &&String| match name.parse() {
        Ok(AmazonS3ConfigKey::Client(key)) => {
            let value = options.0.get(*name).cloned().unwrap_or_default();
            ReqwestConnector::default().connect(&ClientOptions::new().with_config(key, value)).is_err()
        }
        _ => false,
    };
    let why = super::errors::cut(&error.to_string());
    match options.0.keys().find(spoils) {
        Some(name) => BadS3Config(format!("the option {name} has a value that cannot be used ({why})")),
        None => BadS3Config(why),
    }
}

fn capabilities(conditional: bool, max_copy_bytes: u64) -> Capabilities {
    Capabilities {
        name: "s3",
        ordered_list: true,
        start_after: true,
        levels: false,
        list_goes_on: false,
        folders: false,
        conditional_create: conditional,
        conditional_replace: conditional,
        conditional_read: true,
        server_copy: true,
        max_copy_bytes,
        lists_parts: true,
        etags: true,
        attributes: true,
        delete_batch: DELETE_BATCH,
        max_put_bytes: MAX_PUT_BYTES,
        time_step_ns: 1,
    }
}

/// Few and quick: the role services answer at once or are not there.
fn metadata_retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(1),
            base: 2.0,
        },
        max_retries: 2,
        retry_timeout: Duration::from_secs(10),
    }
}

/// Where requests go. An endpoint gets the bucket in the path, unless it was said that its host names the bucket already
/// (as object_store has it); AWS gets it in the host name, unless TLS certificates could not match it.
fn bucket_url(
    endpoint: Option<&str>,
    bucket: &str,
    region: &str,
    virtual_hosted: Option<bool>,
) -> Result<String, BadS3Config> {
    let Some(endpoint) = endpoint else {
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        return Ok(match virtual_hosted.unwrap_or(!bucket.contains('.')) {
            true => format!("https://{bucket}.s3.{region}.amazonaws.com{suffix}"),
            false => format!("https://s3.{region}.amazonaws.com{suffix}/{bucket}"),
        });
    };
    let endpoint = endpoint.trim().trim_end_matches('/');
    let uri: http::Uri =
        endpoint.parse().map_err(|_| BadS3Config(format!("the endpoint {endpoint:?} is no http(s) URL")))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) if !authority.as_str().contains('@') => {}
        (Some(_), Some(authority)) if authority.as_str().contains('@') => {
            return Err(BadS3Config("the endpoint holds a user name or password: credentials go elsewhere".into()));
        }
        _ => return Err(BadS3Config(format!("the endpoint {endpoint:?} is no http(s) URL"))),
    }
    if uri.query().is_some() {
        return Err(BadS3Config(format!("the endpoint {endpoint:?} has a query")));
    }
    Ok(if virtual_hosted == Some(true) {
        let host = uri.host().unwrap_or_default();
        if host.starts_with(&format!("{bucket}.")) {
            endpoint.to_owned()
        } else {
            endpoint.replacen("://", &format!("://{bucket}."), 1)
        }
    } else {
        format!("{endpoint}/{bucket}")
    })
}

/// The service that copies between its buckets: each partition of AWS is one, whatever the region; else the server.
fn service(endpoint: Option<&str>, bucket: &str, region: &str) -> String {
    let partition = if region.starts_with("cn-") {
        "aws-cn"
    } else if region.starts_with("us-gov-") {
        "aws-us-gov"
    } else {
        "aws"
    };
    let Some(endpoint) = endpoint else { return partition.to_owned() };
    // The bucket may stand in the host's name already.
    let endpoint = endpoint.trim().replacen(&format!("://{bucket}."), "://", 1);
    let Ok(uri) = endpoint.parse::<http::Uri>() else { return endpoint };
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    match host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn") {
        true => partition.to_owned(),
        false => normal_service(&uri).unwrap_or(endpoint),
    }
}

/// The value of `max_copy_bytes`: plain digits.
pub(in crate::store) fn copy_limit(text: &str) -> Result<u64, String> {
    let bytes: u64 = text.trim().parse().map_err(|_| format!("max_copy_bytes is a number of bytes, not {text:?}"))?;
    match bytes >= MIN_COPY_LIMIT {
        true => Ok(bytes),
        false => Err(format!("max_copy_bytes is at least {MIN_COPY_LIMIT}: parts are not smaller")),
    }
}

struct Encryption {
    write: HeaderMap,
    customer: HeaderMap,
    copy_customer: HeaderMap,
}

fn visible(name: &str, text: &str) -> Result<HeaderValue, BadS3Config> {
    HeaderValue::from_str(text).map_err(|_| BadS3Config(format!("the value of {name} fits into no header")))
}

/// The headers of server-side encryption, as object_store's options describe them.
fn encryption(options: &Options) -> Result<Encryption, BadS3Config> {
    use object_store::aws::AmazonS3ConfigKey as Key;
    let get = |name: &str| name.parse::<Key>().ok().and_then(|key| options.text(key));
    let mut headers =
        Encryption { write: HeaderMap::new(), customer: HeaderMap::new(), copy_customer: HeaderMap::new() };
    let kind = get("aws_server_side_encryption");
    match kind {
        None if get("aws_sse_customer_key_base64").is_none() => return Ok(headers),
        Some(kind @ ("AES256" | "aws:kms" | "aws:kms:dsse")) => {
            headers.write.insert("x-amz-server-side-encryption", visible("server_side_encryption", kind)?);
            if let Some(id) = get("aws_sse_kms_key_id") {
                headers.write.insert("x-amz-server-side-encryption-aws-kms-key-id", visible("sse_kms_key_id", id)?);
            }
            if let Some(flag) = get("aws_sse_bucket_key_enabled") {
                headers.write.insert(
                    "x-amz-server-side-encryption-bucket-key-enabled",
                    visible("sse_bucket_key_enabled", flag)?,
                );
            }
        }
        None | Some("sse-c") => {
            use base64::Engine as _;
            let key = get("aws_sse_customer_key_base64")
                .ok_or_else(|| BadS3Config("sse-c needs sse_customer_key_base64".into()))?;
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(key)
                .map_err(|_| BadS3Config("sse_customer_key_base64 is not base64".into()))?;
            let md5 = checksum::md5_base64(&bytes);
            for (name, value) in [("algorithm", "AES256"), ("key", key), ("key-md5", md5.as_str())] {
                let mut value = visible("sse_customer_key_base64", value)?;
                value.set_sensitive(name == "key");
                for (map, middle) in [(&mut headers.customer, ""), (&mut headers.copy_customer, "copy-source-")] {
                    let header = format!("x-amz-{middle}server-side-encryption-customer-{name}");
                    if let Ok(header) = HeaderName::from_bytes(header.as_bytes()) {
                        map.insert(header, value.clone());
                    }
                }
            }
        }
        Some(other) => {
            return Err(BadS3Config(format!(
                "server_side_encryption is AES256, aws:kms, aws:kms:dsse or sse-c, not {other:?}"
            )));
        }
    }
    Ok(headers)
}
