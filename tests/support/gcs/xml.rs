//! The XML API: reading an object, writing it whole or in parts.

use serde_json::{Map, Value, json};

use super::bucket::{Bucket, Upload, crc32c, is_name, md5};
use super::{Answer, Request};

/// Headers of a write that are its own, beside those of user metadata.
const OF_A_WRITE: [&str; 2] = ["x-goog-storage-class", "x-goog-encryption-kms-key-name"];
/// The smallest part but the last.
const MIN_PART_BYTES: usize = 5 << 20;

/// The form of its failures.
pub(super) fn failure(status: u16, code: &str) -> Answer {
    let body =
        format!("<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{code}.</Message></Error>");
    Answer::new(status, "application/xml; charset=UTF-8", body)
}

fn good(body: String) -> Answer {
    Answer::new(200, "application/xml; charset=UTF-8", format!("<?xml version='1.0' encoding='UTF-8'?>{body}"))
}

pub(super) fn object(bucket: &mut Bucket, request: &Request, name: &str) -> Answer {
    if !is_name(name) {
        return failure(400, "InvalidObjectName");
    }
    let query: Vec<&str> = request.query.iter().map(|(name, _)| name.as_str()).collect();
    let upload = query.contains(&"uploads") || query.contains(&"uploadId");
    if upload && request.header("x-goog-if-generation-match").is_some() {
        return failure(400, "NotImplemented");
    }
    match (request.method.as_str(), &query[..]) {
        ("GET", []) => get(bucket, request, name),
        ("PUT", []) => put(bucket, request, name),
        ("POST", ["uploads"]) => begin(bucket, request, name),
        ("PUT", ["partNumber", "uploadId"]) => part(bucket, request, name),
        ("GET", ["max-parts", "uploadId"] | ["max-parts", "uploadId", "part-number-marker"]) => {
            list(bucket, request, name)
        }
        ("POST", ["uploadId"]) => complete(bucket, request, name),
        ("DELETE", ["uploadId"]) => match bucket.uploads.remove(request.query("uploadId").unwrap_or_default()) {
            Some(_) => Answer::new(204, "application/xml", ""),
            None => failure(404, "NoSuchUpload"),
        },
        _ => failure(501, "NotImplemented"),
    }
}

/// What the headers of a write say of the object.
fn described(request: &Request) -> Map<String, Value> {
    let mut described = Map::new();
    let fields = [
        ("cache-control", "cacheControl"),
        ("content-disposition", "contentDisposition"),
        ("content-encoding", "contentEncoding"),
        ("content-language", "contentLanguage"),
        ("content-type", "contentType"),
        ("x-goog-storage-class", "storageClass"),
    ];
    for (header, field) in fields {
        if let Some(value) = request.header(header) {
            described.insert(field.into(), json!(value));
        }
    }
    described.entry("contentType").or_insert_with(|| json!("application/octet-stream"));
    let metadata: Map<String, Value> = request
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("x-goog-meta-")?.to_owned(), json!(value))))
        .collect();
    if !metadata.is_empty() {
        described.insert("metadata".into(), Value::Object(metadata));
    }
    described
}

fn kms_key(request: &Request) -> Option<String> {
    request.header("x-goog-encryption-kms-key-name").map(str::to_owned)
}

/// The hash that goes with a body, if it is the body's; and none is a failure: nobody else would find damage.
fn is_whole(request: &Request) -> bool {
    request.header("x-goog-hash") == Some(&format!("crc32c={}", crc32c(&request.body)))
}

/// The bytes: unpacked (here: others) when they are said to be packed and the client does not take them so.
fn get(bucket: &Bucket, request: &Request, name: &str) -> Answer {
    if let Some(strange) = request.strange_header(&["x-goog-if-generation-match"]) {
        return failure(501, strange);
    }
    let Some(object) = bucket.objects.get(name) else { return failure(404, "NoSuchKey") };
    if request.header("x-goog-if-generation-match").is_some_and(|wanted| wanted != object.generation.to_string()) {
        return failure(412, "PreconditionFailed");
    }
    let told = object.described.get("contentEncoding") == Some(&json!("gzip"));
    if told && request.header("accept-encoding") != Some("gzip") {
        return Answer::new(200, "text/plain", "unpacked")
            .with("x-guploader-response-body-transformations", "gunzipped");
    }
    let total = object.body.len();
    let (status, range) = match request.header("range") {
        None => (200, 0..total),
        Some(text) => {
            let ends = text.strip_prefix("bytes=").and_then(|ends| ends.split_once('-'));
            let Some((Ok(first), Ok(last))) = ends.map(|(a, b)| (a.parse::<usize>(), b.parse::<usize>())) else {
                return failure(400, "InvalidArgument");
            };
            if first >= total || first > last {
                return failure(416, "InvalidRange");
            }
            (206, first..(last + 1).min(total))
        }
    };
    let kind = object.described.get("contentType").and_then(Value::as_str).unwrap_or_default();
    let mut answer = Answer::new(status, kind, &object.body[range.clone()])
        // Said of objects that have no Cache-Control, too.
        .with("cache-control", "private, max-age=0")
        .with("x-goog-generation", object.generation.to_string())
        .with("x-goog-hash", format!("crc32c={}", crc32c(&object.body)));
    if !object.composite {
        answer = answer.with("x-goog-hash", format!("md5={}", md5(&object.body)));
    }
    for (name, value) in object.described.get("metadata").and_then(Value::as_object).into_iter().flatten() {
        answer = answer.with(&format!("x-goog-meta-{name}"), value.as_str().unwrap_or_default());
    }
    match status {
        206 => answer.with("content-range", format!("bytes {}-{}/{total}", range.start, range.end - 1)),
        _ => answer,
    }
}

fn put(bucket: &mut Bucket, request: &Request, name: &str) -> Answer {
    let known = [&OF_A_WRITE[..], &["x-goog-hash", "x-goog-if-generation-match"]].concat();
    if let Some(strange) = request.strange_header(&known) {
        return failure(501, strange);
    }
    if !is_whole(request) {
        return failure(400, "BadDigest");
    }
    if let Some(wanted) = request.header("x-goog-if-generation-match") {
        match wanted.parse::<u64>() {
            Ok(wanted) if wanted == bucket.generation(name) => {}
            Ok(_) => return failure(412, "PreconditionFailed"),
            Err(_) => return failure(400, "InvalidArgument"),
        }
    }
    let generation = bucket.store(name, request.body.clone(), false, described(request), kms_key(request));
    let hash = format!("crc32c={},md5={}", crc32c(&request.body), md5(&request.body));
    Answer::new(200, "text/html; charset=UTF-8", "")
        .with("x-goog-generation", generation.to_string())
        .with("x-goog-hash", hash)
}

fn begin(bucket: &mut Bucket, request: &Request, name: &str) -> Answer {
    if let Some(strange) = request.strange_header(&OF_A_WRITE) {
        return failure(501, strange);
    }
    let (described, kms_key) = (described(request), kms_key(request));
    let id = bucket.begin(Upload { name: name.to_owned(), described, kms_key, parts: Default::default() });
    good(format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
}

fn part(bucket: &mut Bucket, request: &Request, name: &str) -> Answer {
    if let Some(strange) = request.strange_header(&["x-goog-hash"]) {
        return failure(501, strange);
    }
    let Some(number) =
        request.query("partNumber").and_then(|text| text.parse().ok()).filter(|n| (1..=10_000).contains(n))
    else {
        return failure(400, "InvalidArgument");
    };
    if !is_whole(request) {
        return failure(400, "BadDigest");
    }
    let upload = bucket.uploads.get_mut(request.query("uploadId").unwrap_or_default());
    let Some(upload) = upload.filter(|upload| upload.name == name) else { return failure(404, "NoSuchUpload") };
    upload.parts.insert(number, request.body.clone());
    Answer::new(200, "text/html; charset=UTF-8", "").with("etag", format!("\"{}\"", md5(&request.body)))
}

fn list(bucket: &Bucket, request: &Request, name: &str) -> Answer {
    let upload = bucket.uploads.get(request.query("uploadId").unwrap_or_default());
    let Some(upload) = upload.filter(|upload| upload.name == name) else { return failure(404, "NoSuchUpload") };
    let marker: u32 = request.query("part-number-marker").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut left = upload.parts.range(marker + 1..);
    let mut body = String::from("<ListPartsResult>");
    let mut last = marker;
    for (number, bytes) in left.by_ref().take(bucket.parts_page) {
        last = *number;
        let (etag, size) = (md5(bytes), bytes.len());
        body.push_str(&format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>&quot;{etag}&quot;</ETag><Size>{size}</Size></Part>"
        ));
    }
    let more = left.next().is_some();
    body.push_str(&format!("<IsTruncated>{more}</IsTruncated>"));
    if more {
        body.push_str(&format!("<NextPartNumberMarker>{last}</NextPartNumberMarker>"));
    }
    good(format!("{body}</ListPartsResult>"))
}

/// The text between two marks, each time it is there.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    text.split(open).skip(1).filter_map(|rest| rest.split_once(close).map(|(inner, _)| inner)).collect()
}

fn complete(bucket: &mut Bucket, request: &Request, name: &str) -> Answer {
    if let Some(strange) = request.strange_header(&[]) {
        return failure(501, strange);
    }
    let id = request.query("uploadId").unwrap_or_default().to_owned();
    let Some(upload) = bucket.uploads.get(&id).filter(|upload| upload.name == name) else {
        return failure(404, "NoSuchUpload");
    };
    let text = String::from_utf8_lossy(&request.body).replace("&quot;", "\"");
    let numbers = between(&text, "<PartNumber>", "</PartNumber>");
    let etags = between(&text, "<ETag>", "</ETag>");
    if numbers.is_empty() || numbers.len() != etags.len() {
        return failure(400, "MalformedCompleteMultipartUploadRequest");
    }
    let mut body = Vec::new();
    let mut last = 0;
    for (i, (number, etag)) in numbers.iter().zip(&etags).enumerate() {
        let number: u32 = number.parse().unwrap_or(0);
        let part = upload.parts.get(&number).filter(|part| *etag == format!("\"{}\"", md5(part)));
        let Some(part) = part.filter(|_| number > last) else { return failure(400, "InvalidPart") };
        if i + 1 < numbers.len() && part.len() < MIN_PART_BYTES {
            return failure(400, "EntityTooSmall");
        }
        last = number;
        body.extend_from_slice(part);
    }
    let (described, kms_key) = (upload.described.clone(), upload.kms_key.clone());
    bucket.uploads.remove(&id);
    bucket.store(name, body, true, described, kms_key);
    good(format!("<CompleteMultipartUploadResult><Key>{}</Key></CompleteMultipartUploadResult>", name.len()))
}
